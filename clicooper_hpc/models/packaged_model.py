"""Classifiers by the names that torchvision and timm give them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from torch import nn

from clicooper_hpc.errors import UsageError

__all__ = ["PACKAGES", "find_packaged_model"]


def find_packaged_model(reference: str, where: str) -> Callable[..., nn.Module] | None:
    """Return the function that builds network ``"package:name"``; None for a module of a user's.

    It is called as ``function(input_shape=..., outputs=..., **options)``; the options are those of
    the package. Weights are those it begins with, never downloaded.

    Raises ``UsageError`` if the package is not installed or does not know the name.
    """
    package, _, name = reference.partition(":")
    make = PACKAGES.get(package)
    if make is None:
        return None
    try:
        library = importlib.import_module(package)
    except Exception as error:
        # A torchvision of another build than torch ends in a RuntimeError.
        raise UsageError(
            f"{package} cannot be imported: {type(error).__name__}: {error}",
            where=where,
            remedy=f"Install the {package} that fits this torch, on every rank.",
        ) from error
    return make(library, name, where)


def _torchvision(library: Any, name: str, where: str) -> Callable[..., nn.Module]:
    known = library.models.list_models(module=library.models)
    _check_name(name, known, where)

    def build(*, input_shape: tuple[int, ...], outputs: int, **options: object) -> nn.Module:
        model: nn.Module = library.models.get_model(
            name, weights=None, num_classes=outputs, **options
        )
        return model

    return build


def _timm(library: Any, name: str, where: str) -> Callable[..., nn.Module]:
    _check_name(name, library.list_models(), where)

    def build(*, input_shape: tuple[int, ...], outputs: int, **options: object) -> nn.Module:
        model: nn.Module = library.create_model(
            name, pretrained=False, num_classes=outputs, in_chans=input_shape[0], **options
        )
        return model

    return build


def _check_name(name: str, known: list[str], where: str) -> None:
    if name not in known:
        near = [one for one in known if one.startswith(name[:4])][:8]
        raise UsageError(
            f"the package has no network {name!r}",
            where=where,
            remedy=f"Near it: {', '.join(near)}." if near else "",
        )


#: Packages whose networks can be named ``"package:name"``.
PACKAGES: dict[str, Callable[[Any, str, str], Callable[..., nn.Module]]] = {
    "torchvision": _torchvision,
    "timm": _timm,
}
