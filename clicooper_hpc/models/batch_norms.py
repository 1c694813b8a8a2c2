"""Batch normalisation in networks of others, which mixes rows, made group normalisation."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from clicooper_hpc.errors import UsageError
from clicooper_hpc.models.layers import group_norm_layer
from clicooper_hpc.models.module_options import BatchNormChoice

__all__ = ["replace_batch_norms"]

_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def replace_batch_norms(model: nn.Module, choice: BatchNormChoice, where: str) -> nn.Module:
    """Return ``model`` with a GroupNorm of as many channels in place of every batch normalisation.

    A subclass that also drops and activates (timm's) becomes a GroupNorm and those two. With the
    choice ``"refuse"`` nothing changes; `check_segmentable` names the layer then.

    Raises ``UsageError`` for a subclass that does something else; names module and class.
    """
    if choice == "refuse":
        return model
    if isinstance(model, _BatchNorm):
        return _replaced(model, where)
    for name, module in list(model.named_modules()):
        for child_name, child in list(module.named_children()):
            if isinstance(child, _BatchNorm):
                place = ".".join(part for part in (name, child_name) if part)
                setattr(module, child_name, _replaced(child, f"{where}, {place}"))
    return model


def _replaced(norm: _BatchNorm, where: str) -> nn.Module:
    new = group_norm_layer(norm.num_features)
    if type(norm) in _PLAIN:
        return new
    drop, activation = getattr(norm, "drop", None), getattr(norm, "act", None)
    if isinstance(drop, nn.Module) and isinstance(activation, nn.Module):
        return nn.Sequential(new, drop, activation)
    raise UsageError(
        f"a {type(norm).__name__} does more than batch normalisation",
        where=where,
        remedy="Build the network with another normalisation.",
    )
