"""Making a weights file of a network that a package publishes."""

from __future__ import annotations

from pathlib import Path

import torch

from clicooper_hpc.errors import EnvironmentUnfitError, UsageError
from clicooper_hpc.fronts.efficientnet_lite import convert_efficientnet_lite0
from clicooper_hpc.fronts.published_weights import (
    PUBLISHED,
    PublishedWeights,
    find_published_file,
)
from clicooper_hpc.fronts.weights import WeightsDescription, save_weights

__all__ = ["import_weights"]

_CONVERSIONS = {"efficientnet-lite0": convert_efficientnet_lite0}


def import_weights(name: str, path: Path) -> PublishedWeights:
    """Write the front of the published network ``name`` to ``path``; return what it was made of.

    Needs the package with the weights, and no network.

    Raises
    ------
    UsageError
        No such network is known, or there is a file already.
    EnvironmentUnfitError
        The package is not installed, or the file cannot be written.
    DataError
        The package's file is another one.
    """
    if name not in PUBLISHED:
        raise UsageError(
            f"{name!r} is no published network", remedy=f"Known are: {', '.join(PUBLISHED)}."
        )
    if path.exists():
        raise UsageError("there is a file already", where=str(path), remedy="Choose another name.")
    published = PUBLISHED[name]
    found = find_published_file(published)
    # Tensors and containers alone: torch refuses whatever would run code. The digest is known.
    state = torch.load(found, map_location="cpu", weights_only=True)
    layers, tensors = _CONVERSIONS[name](state, where=str(found))
    description = WeightsDescription(
        layers=layers,
        input_shape=(3, published.side, published.side),
        mean=published.preprocessing.mean,
        std=published.preprocessing.std,
        trained_on=published.trained_on,
        name=published.title,
        license=published.license,
        source=published.source,
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_weights(path, description, tensors)
    except OSError as error:
        raise EnvironmentUnfitError(
            f"the front cannot be written ({error.strerror})",
            where=str(path),
            remedy="Choose a folder you may write to.",
        ) from error
    return published
