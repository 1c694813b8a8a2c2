"""Build a network by its name: the same bits for the same seed, on every rank."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from clicooper_hpc.errors import UsageError
from clicooper_hpc.models.custom_model import build_custom_model
from clicooper_hpc.models.initial_weights import set_initial_weights, without_initial_weights
from clicooper_hpc.models.mlp import mlp
from clicooper_hpc.models.model_options import nearest_option
from clicooper_hpc.models.module_options import ModuleOptions
from clicooper_hpc.models.packaged_model import PACKAGES
from clicooper_hpc.models.resnet11 import resnet11
from clicooper_hpc.models.resnet18 import resnet18
from clicooper_hpc.models.vgg import vgg
from clicooper_hpc.models.vit import vit

__all__ = ["MODEL_NAMES", "build_model", "outline_model"]


class _Network(NamedTuple):
    """How to make a built-in network and how large its initial weights are."""

    build: Callable[[tuple[int, ...], int, Mapping[str, object]], nn.Sequential]
    gain: float


_BUILT_IN = {
    "mlp": _Network(mlp, gain=2.0),
    "vgg": _Network(vgg, gain=2.0),
    "resnet11": _Network(resnet11, gain=2.0),
    "resnet18": _Network(resnet18, gain=2.0),
    "vit": _Network(vit, gain=1.0),
}
MODEL_NAMES = tuple(_BUILT_IN)

_USUAL = ModuleOptions()


def build_model(
    name: str,
    *,
    input_shape: tuple[int, ...],
    outputs: int,
    seed: int,
    options: Mapping[str, object],
    search_path: Path | None = None,
    choices: ModuleOptions = _USUAL,
) -> nn.Sequential:
    """Return network ``name`` with initial weights, on the CPU, in training mode.

    Parameters
    ----------
    name
        One of ``MODEL_NAMES``, ``"module:function"`` for a network of the user's own, or that of
        a package (`PACKAGES`).
    input_shape
        Shape of one sample of the release: (d,) or (channels, height, width).
    outputs
        Numbers per sample the network gives: one per sub-label.
    seed
        Key of the initial weights, in [0, 2**64). Same seed, same bits, on every rank; the
        global generators of torch are not touched.
    options
        The network's options by name, as read from the job file.
    search_path
        Folder of the job file, where modules of the user's own may lie.
    choices
        For networks that are not built in.

    Raises
    ------
    UsageError
        Unknown name or option, an option's bad value, an ``input_shape`` the network cannot
        take, or a network of the user's own that cannot be imported, built or cut.
    ValueError
        ``input_shape``, ``outputs`` or ``seed`` out of range.
    """
    if not input_shape or min(input_shape) < 1 or outputs < 1:
        raise ValueError(f"no network takes {input_shape} to {outputs} numbers")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed {seed} is outside [0, 2**64)")
    # No built-in name has a colon, so a module of the user's own can never hide one.
    if ":" in name:
        return build_custom_model(
            name,
            input_shape=input_shape,
            outputs=outputs,
            seed=seed,
            options=options,
            search_path=search_path,
            choices=choices,
        )
    network = _BUILT_IN.get(name)
    if network is None:
        raise UsageError(
            f"there is no network {name!r}",
            where="model.name",
            remedy=f"Nearest: {nearest_option(name, list(MODEL_NAMES))!r}. There are: "
            f"{', '.join(MODEL_NAMES)}, your own as 'module:function', or one of a package as "
            f"{' or '.join(repr(f'{name}:NAME') for name in PACKAGES)}.",
        )
    for key in ("batch_norm", "cuts"):
        value = getattr(choices, key)
        if value != getattr(_USUAL, key):
            raise UsageError(
                f"is for networks that are not built in; {name!r} needs none",
                where=f'model.{key} = "{value}"',
                remedy="Leave the key out.",
            )
    # On the CPU on every rank: weights do not depend on what devices a node has. All are set below.
    with without_initial_weights(), torch.device("cpu"):
        model = network.build(input_shape, outputs, options)
    set_initial_weights(model, seed, gain=network.gain)
    return model


def outline_model(
    name: str, *, input_shape: tuple[int, ...], outputs: int, options: Mapping[str, object]
) -> nn.Sequential:
    """Return the built-in network ``name`` on the meta device: layers and shapes, no memory.

    Parameters and errors as in `build_model`.
    """
    with without_initial_weights(), torch.device("meta"):
        return _BUILT_IN[name].build(input_shape, outputs, options)
