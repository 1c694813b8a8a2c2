"""The network that a run delivered, as the network of a front.

Whoever reads it from a run folder has verified that run (`clicooper_hpc.verification.front_run`);
here it is put together from its segments, compared with the network that the job of the run
describes, and cut. And its data are compared with the private ones: a network that saw them without
privacy is no public front.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clicooper_hpc.config.job import Job
from clicooper_hpc.config.read_out import ReadOut
from clicooper_hpc.data.dataset import DataSet, open_dataset
from clicooper_hpc.errors import DataError, UsageError
from clicooper_hpc.fronts.layer_spec import expected_layer_tensors
from clicooper_hpc.fronts.model_layers import describe_model_layers
from clicooper_hpc.fronts.network import Network
from clicooper_hpc.fronts.projection import count_shared_rows
from clicooper_hpc.fronts.weights import count_kept_layers
from clicooper_hpc.models.build_model import MODEL_NAMES, outline_model
from clicooper_hpc.privacy.front_run import FrontRun

__all__ = ["DeliveredNetwork", "iterate_data_rows"]

_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class DeliveredNetwork:
    """A delivered network, and what is known of the run it is from.

    Parameters
    ----------
    facts
        What the card says of the run.
    job
        The run's.
    cuts
        First layer of each segment.
    segments
        Tensors of each segment by name, as delivered: ``"<layer in the segment>.<tensor>"``.
    input_shape
        Of one row of the run's data; None where they are not at hand.
    reasons
        Why the network may depend on private samples; empty where nothing speaks for it.
    """

    facts: FrontRun
    job: Job
    cuts: tuple[int, ...]
    segments: Sequence[Mapping[str, Tensor]] = field(repr=False)
    input_shape: tuple[int, ...] | None = None
    reasons: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """Name of the network in errors."""
        return f"network {self.job.model.name} of run {self.facts.run_id}"

    def compare_data(self, private: DataSet) -> DeliveredNetwork:
        """Return the same, its training data compared with all splits of the ``private`` ones.

        The data are looked for where the run's job says. Rows are compared bit for bit, whatever
        shape their numbers have, so that parts, and other orders, are found too; where they are of
        another length, nobody can say.
        """
        protected = self.facts.promise is not None
        try:
            data = open_dataset(self.job.data.path)
        except DataError:
            what = f"the data of run {self.facts.run_id} ({self.facts.data}) were not compared"
            return replace(self, reasons=(f"{what} with the private data",))
        with data:
            train = data.split("train")
            fingerprint = train.fingerprint()
            shape = train.input_shape
            reasons: tuple[str, ...] = ()
            own = private.split("train")
            count = min(self.job.data.train_rows or len(train), len(train))
            rows = (row for block in iterate_data_rows(data, ["train"], count) for row in block)
            if fingerprint == own.fingerprint():
                reasons = (f"run {self.facts.run_id} was trained on the private data itself",)
            elif math.prod(shape) != math.prod(own.input_shape):
                text = f"the rows of run {self.facts.run_id} ({list(shape)}) were not compared"
                reasons = (f"{text} with the private rows ({list(own.input_shape)})",)
            else:
                shared = count_shared_rows(rows, iterate_data_rows(private))
                if shared:
                    text = f"{shared} rows that run {self.facts.run_id} was trained on"
                    reasons = (f"{text} are private rows too",)
        if reasons and protected:
            reasons = (f"{reasons[0]}; it promised {self.facts.promise}",)
        facts = replace(self.facts, fingerprint=fingerprint.hex)
        return replace(self, facts=facts, input_shape=shape, reasons=reasons)

    def front_network(
        self,
        rows: tuple[int, ...],
        *,
        cut: int | None,
        read_outs: tuple[ReadOut, ...] = (),
        side: int | None = None,
        mirror: bool = False,
    ) -> tuple[Network, int]:
        """Return the layers before ``cut`` as a network, and how many the whole one has.

        ``rows``: shape of the rows of the front, for a run whose data are not at hand.
        ``read_outs``, ``side`` and ``mirror`` as in `clicooper_hpc.fronts.weights.load_weights`.

        Raises
        ------
        DataError
            The tensors are not those of the network, or a layer is none that a front has.
        UsageError
            ``cut`` or a read-out is not between 1 and the number of layers.
        """
        shape = self.input_shape or rows
        model = self._model(shape)
        end = count_kept_layers(len(model), cut, read_outs, name=self.where)
        known = describe_model_layers(list(model)[:end], where=self.where)
        if side is not None:
            if len(shape) != 3:
                raise UsageError(
                    f"run {self.facts.run_id} takes no images, but rows of shape {list(shape)}",
                    where="front.resize",
                )
            shape = (shape[0], side, side)
        state = model.state_dict()
        wanted = expected_layer_tensors(known.layers, where=self.where)
        network = Network(
            known.layers,
            shape,
            known.mean,
            known.std,
            {name: state[name].clone() for name in wanted},
            read_outs=read_outs,
            mirror=mirror,
        )
        return network, len(model)

    def _model(self, shape: tuple[int, ...]) -> nn.Sequential:
        """Return the whole network of the run, filled with what was delivered."""
        name, options = self.job.model.name, self.job.model.options
        # Code of whoever wrote that job is never run for it.
        if name not in MODEL_NAMES:
            raise DataError(
                f"the network {name!r} is the run's own code, which a front does not run",
                where=f"run {self.facts.run_id}",
                remedy=f"Take a run of one of {', '.join(MODEL_NAMES)}.",
            )
        state = self._whole_state()
        last = max((key for key in state if key.endswith(".weight")), key=_layer_of, default=None)
        # Every network of the package ends in a linear layer.
        if last is None or state[last].ndim != 2 or not state[last].numel():
            raise self._refuse("it does not end in a linear layer")
        outputs = state[last].shape[0]
        try:
            # Without memory: that job may describe a network of any size.
            model = outline_model(name, input_shape=shape, outputs=outputs, options=options)
        except UsageError as error:
            raise DataError(
                f"does not take rows of shape {list(shape)}: {error.what}", where=self.where
            ) from None
        wanted = model.state_dict()
        for key in sorted(wanted.keys() ^ state.keys()):
            raise self._refuse(f"tensor {key} is missing or too many")
        for key, value in state.items():
            if value.shape != wanted[key].shape or value.dtype != torch.float32:
                raise self._refuse(
                    f"tensor {key} is {value.dtype} {list(value.shape)}, must be "
                    f"{wanted[key].dtype} {list(wanted[key].shape)}"
                )
            if not bool(torch.isfinite(value).all()):
                raise self._refuse(f"tensor {key} holds numbers that are not finite")
        model.load_state_dict(state, assign=True)
        return model.eval()

    def _whole_state(self) -> dict[str, Tensor]:
        """Return all tensors by their names in the whole network."""
        state: dict[str, Tensor] = {}
        for first, segment in zip(self.cuts, self.segments, strict=True):
            for name, tensor in segment.items():
                layer, _, rest = name.partition(".")
                if not layer.isdecimal() or not rest:
                    raise self._refuse(f"tensor {name!r} belongs to no layer")
                state[f"{first + int(layer)}.{rest}"] = tensor
        return state

    def _refuse(self, what: str) -> DataError:
        return DataError(
            f"what was delivered is not the network that the run's job describes: {what}",
            where=self.where,
            remedy="Use the version that made the run; and where its data are gone, rows of the "
            "same shape.",
        )


def iterate_data_rows(
    data: DataSet, splits: Sequence[str] | None = None, most: int | None = None
) -> Iterator[NDArray[np.float32]]:
    """Yield rows of a data set, some thousand at a time, split by split.

    ``splits``: of these alone; ``most``: at most so many of each.
    """
    for name, split in data.splits.items():
        if splits is not None and name not in splits:
            continue
        end = len(split) if most is None else most
        # In parts: a split need not fit into memory.
        for start in range(0, end, _BLOCK):
            yield split.read(np.arange(start, min(start + _BLOCK, end)))


def _layer_of(name: str) -> int:
    return int(name.partition(".")[0])
