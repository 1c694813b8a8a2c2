"""Checks that a network may be cut between any two layers and fed in micro-batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parameter import is_lazy

from clicooper_hpc.errors import UsageError
from clicooper_hpc.models.dry_run import dry_run_layer, dry_run_mode, dry_run_rows
from clicooper_hpc.models.layer_randomness import seed_layer_randomness
from clicooper_hpc.models.row_independence import RowPlacement, keeps_row_independence

__all__ = ["check_modules", "check_row_independence", "check_segmentable"]

_NORM_REMEDY = (
    "Use nn.GroupNorm or nn.LayerNorm: with them a row's result does not depend on its batch "
    'mates or on the size of a micro-batch. For BatchNorm model.batch_norm = "group-norm" does it.'
)


def check_segmentable(model: nn.Sequential) -> None:
    """Refuse a network whose parts would not compute what the whole computes.

    Raises
    ------
    UsageError
        ``model`` is no plain ``nn.Sequential`` or has no parameters; a layer holds a
        normalisation with batch or running statistics, a lazy parameter, or a parameter that
        another layer holds too; a layer works in place on what it receives.
    """
    # A subclass may call its layers in another order or twice; parts would not know.
    if not isinstance(model, nn.Sequential) or type(model).forward is not nn.Sequential.forward:
        raise UsageError(
            f"the network is a {type(model).__name__} with a forward of its own",
            where="model",
            remedy="Give an nn.Sequential: its children are the layers it can be cut between.",
        )
    if next(model.parameters(), None) is None:
        raise UsageError("the network has no parameters to train", where="model")
    owner_of: dict[int, int] = {}
    for index, layer in enumerate(model):
        where = f"layer {index} ({type(layer).__name__}) of the network"
        check_modules(layer, where)
        # The input is the receive buffer or the output kept for the backward pass.
        if getattr(layer, "inplace", False):
            raise UsageError(
                "changes its input in place, which a neighbouring segment may still need",
                where=where,
                remedy="Build it with inplace=False.",
            )
        for name, parameter in layer.named_parameters():
            if is_lazy(parameter):
                raise UsageError(
                    f"parameter {name!r} has no shape yet", where=where, remedy="Give all sizes."
                )
            # Tied weights would need their gradients added up across trainers, which no message
            # carries.
            first = owner_of.setdefault(id(parameter), index)
            if first != index:
                raise UsageError(
                    f"shares parameter {name!r} with layer {first}, so they cannot be parted",
                    where=where,
                    remedy="Give each layer parameters of its own.",
                )


def check_modules(layer: nn.Module, where: str) -> None:
    """Refuse normalisations with statistics of the batch, or kept from earlier batches.

    Raises ``UsageError``; ``where`` names the layer or network.
    """
    for name, module in layer.named_modules():
        # Instance norm without running statistics looks at one row alone and is allowed.
        keeps_statistics = isinstance(module, _InstanceNorm) and module.track_running_stats
        if keeps_statistics or isinstance(module, _BatchNorm):
            place = f" at {name!r}" if name else ""
            raise UsageError(
                f"holds a {type(module).__name__}{place}, whose statistics mix rows",
                where=where,
                remedy=_NORM_REMEDY,
            )


def _nearly_equal(one: Tensor, other: Tensor) -> bool:
    # Rows that mix differ by far more; last bits matter to fronts alone (fronts.row_blocks).
    return torch.allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)


def check_row_independence(model: nn.Sequential, input_shape: tuple[int, ...]) -> None:
    """Refuse a network in which a row's result depends on its batch mates, found by trying.

    Runs two batches in training mode, with equal random numbers, that differ in the second row
    only; the first row must come out the same (relative tolerance 1e-4) behind every layer. Finds
    what no list of module types can: a layer of the user's own that averages over axis 0.
    Buffers, modes and generators are as before afterwards.

    Raises
    ------
    UsageError
        Names the first layer that mixes rows; or as ``dry_run.run_layer`` does.
    """
    with dry_run_mode(model, training=True), torch.no_grad():
        # Row 0 with two different batch mates: 1 and 2.
        rows = dry_run_rows(model, input_shape, rows=3)
        batches = [rows[[0, 1]], rows[[0, 2]]]
        for index, layer in enumerate(model):
            outputs: list[Tensor] = []

            def run(
                batch: Tensor,
                index: int = index,
                layer: nn.Module = layer,
                outputs: list[Tensor] = outputs,
            ) -> Tensor:
                seed_layer_randomness(0, 0, 0, index, rows.device)
                # Buffers are copies, so that running statistics do not reach the model.
                copies = {name: buffer.clone() for name, buffer in layer.named_buffers()}
                outputs.append(
                    dry_run_layer(
                        index, layer, batch, call=lambda x: functional_call(layer, copies, (x,))
                    )
                )
                return outputs[-1]

            # The second row differs between the batches, so only the first is compared.
            first = [RowPlacement(batches[1], [0], [0])]
            if not keeps_row_independence(run, run(batches[0]), first, same=_nearly_equal):
                raise UsageError(
                    "mixes the rows of a batch: a row's result changes with its batch mates",
                    where=f"layer {index} ({type(layer).__name__}) of the network",
                    remedy=_NORM_REMEDY,
                )
            batches = outputs
