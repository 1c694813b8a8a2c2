"""The whole state of a segment between two steps, as named tensors: what checkpoints hold.

Names: ``weights/NAME`` (as in the segment's ``state_dict``); under ``training/`` what only training
needs: ``training/head/NAME`` (local head, one-way only) and ``training/optimizer/INDEX/KEY``
(INDEX counts the trained parameters, segment first).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from clicooper_hpc.errors import DivergedError, RunFolderError
from clicooper_hpc.pipeline.runtime import SegmentRuntime
from clicooper_hpc.transport.finite_payload import describe_non_finite

__all__ = [
    "TRAINING",
    "WEIGHTS",
    "check_state_finite",
    "check_state_fits",
    "export_segment_state",
    "import_segment_state",
    "segment_weights",
]

# Two prefixes, for a proof has two roots: weights, which are delivered and marked, and the rest.
WEIGHTS = "weights/"
TRAINING = "training/"
_HEAD = "training/head/"
_OPTIMIZER = "training/optimizer/"


def segment_weights(runtime: SegmentRuntime) -> dict[str, Tensor]:
    """Return copies of the segment's weights and buffers on the CPU, by name."""
    return _copy_state(runtime.segment.layers.state_dict())


def export_segment_state(runtime: SegmentRuntime) -> dict[str, Tensor]:
    """Return copies on the CPU of all that the next step depends on."""
    state = {f"{WEIGHTS}{name}": value for name, value in segment_weights(runtime).items()}
    if runtime.head is not None:
        state |= {f"{_HEAD}{k}": v for k, v in _copy_state(runtime.head.state_dict()).items()}
    if runtime.optimizer is not None:
        for index, entry in enumerate(runtime.optimizer.state):
            # Sorted, and numbered with leading zeros: the file, and with it the root that is
            # proved, must not depend on the order in which an optimizer made its entries.
            for key, value in sorted(entry.items()):
                state[f"{_OPTIMIZER}{index:04d}/{key}"] = value.detach().cpu().clone()
    return state


def check_state_finite(state: Mapping[str, Tensor], *, step: int) -> None:
    """Refuse a state after ``step`` steps that holds NaN or infinity, before it is kept or sent.

    Raises
    ------
    DivergedError
        Training diverged on this rank; names the tensor.
    """
    for name, value in state.items():
        odd = describe_non_finite(value)
        # A restart from such a state could only fail again, and an older one would be gone.
        if odd is not None:
            raise DivergedError(
                f"tensor {name} holds {odd}: training diverged on this rank",
                where=f"state after {step} steps",
                remedy="Lower training.learning_rate, or set training.clip_norm",
            )


def check_state_fits(state: Mapping[str, Tensor], layers: torch.nn.Module, *, where: str) -> None:
    """Refuse a state that a segment of ``layers`` cannot go on from.

    Looked at are the weights, and the moments of the segment's own parameters; a local head comes
    behind them.

    Raises
    ------
    RunFolderError
        A tensor is missing, not known, or of another shape or dtype; names ``where``.
    """
    _segment_part(layers, state, WEIGHTS, where)
    shapes = [parameter.shape for parameter in layers.parameters()]
    for name, value in state.items():
        index = name.removeprefix(_OPTIMIZER).partition("/")[0]
        if not name.startswith(_OPTIMIZER) or not index.isdecimal() or int(index) >= len(shapes):
            continue
        # A counter has no dimensions, a moment has those of its parameter.
        if value.ndim and value.shape != shapes[int(index)]:
            raise _unfit_tensor(name, where)


def import_segment_state(
    runtime: SegmentRuntime, state: Mapping[str, Tensor], *, where: str
) -> None:
    """Bring ``runtime`` to the state that `export_segment_state` returned.

    Raises
    ------
    RunFolderError
        A tensor is missing, unknown, or of another shape or type; names ``where``.
    """
    runtime.segment.layers.load_state_dict(
        _segment_part(runtime.segment.layers, state, WEIGHTS, where)
    )
    if runtime.head is not None:
        runtime.head.load_state_dict(_segment_part(runtime.head, state, _HEAD, where))
    if runtime.optimizer is None:
        return
    kept: dict[int, dict[str, Tensor]] = {}
    for name, value in state.items():
        if name.startswith(_OPTIMIZER):
            index, _, key = name.removeprefix(_OPTIMIZER).partition("/")
            if not index.isdecimal() or int(index) >= len(runtime.parameters):
                raise _unfit_tensor(name, where)
            if value.ndim and value.shape != runtime.parameters[int(index)].shape:
                raise _unfit_tensor(name, where)
            kept.setdefault(int(index), {})[key] = value
    try:
        # Settings come from the job and the plan (learning rate), not from the file.
        runtime.optimizer.restore_state(kept)
    except KeyError as error:
        raise _unfit_tensor(f"{_OPTIMIZER}*/{error.args[0]}", where) from None


def _segment_part(
    module: torch.nn.Module, state: Mapping[str, Tensor], prefix: str, where: str
) -> dict[str, Tensor]:
    """Return the tensors of ``module`` from ``state``, compared with what it has now."""
    found = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    wanted = module.state_dict()
    # All of it or nothing: a tensor that is left out would keep its initial value unseen.
    odd = sorted(found.keys() ^ wanted.keys())
    if odd:
        raise _unfit_tensor(prefix + odd[0], where)
    for name, value in found.items():
        if value.shape != wanted[name].shape or value.dtype != wanted[name].dtype:
            raise _unfit_tensor(prefix + name, where)
    return found


def _copy_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # Copies: the next step changes the tensors in place.
    return {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}


def _unfit_tensor(name: str, where: str) -> RunFolderError:
    return RunFolderError(
        f"tensor {name} does not fit the segment",
        where=where,
        remedy="Use the checkpoint this run wrote for this segment.",
    )
