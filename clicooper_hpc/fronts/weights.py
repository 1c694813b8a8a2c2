"""Fronts from public weights: a safetensors file that says what network it holds.

The description is one JSON object under the metadata key ``clicooper.front``; a file without it
may have a sidecar ``<name>.json`` or ``<name>.toml`` with the same keys beside it::

    {"version": 1, "input_shape": [3, 32, 32], "layers": [{"type": "Conv2d", ...}, ...],
     "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25],
     "trained_on": "CIFAR-100 train, public"}

``layers``, ``input_shape``, ``mean`` and ``std`` are needed; rows in [0, 1] enter as
``(x - mean) / std``. ``trained_on`` says why the weights are independent of the private data; a
front without it is reported as conditional. ``name``, ``license`` and ``source`` (where they are
from, with a digest) are shown with it. Tensors are named ``<layer index>.<name>``, float32.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from clicooper_hpc.config.read_out import ReadOut, longest_read_out
from clicooper_hpc.errors import DataError, UsageError
from clicooper_hpc.fronts.layer_spec import (
    Layer,
    expected_layer_tensors,
    layers_to_objects,
    parse_layers,
    trace_layer_shapes,
)
from clicooper_hpc.fronts.network import Network
from clicooper_hpc.fronts.published_weights import how_to_import
from clicooper_hpc.runstore.atomic_files import replace_atomically

__all__ = [
    "METADATA_KEY",
    "WeightsDescription",
    "WeightsFile",
    "count_kept_layers",
    "load_weights",
    "parse_weights_description",
    "save_weights",
]

METADATA_KEY = "clicooper.front"
_TEXTS = ("trained_on", "name", "license", "source")
_KEYS = {"version", "input_shape", "layers", "mean", "std", *_TEXTS}
_MAX_TEXT = 1 << 20


@dataclass(frozen=True, slots=True)
class WeightsDescription:
    """What a weights file says about itself."""

    layers: tuple[Layer, ...]
    input_shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    trained_on: str | None
    name: str | None = None
    license: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A network read from a file and cut.

    ``name`` is that of the file, ``label`` what a reader is told of where its weights are from.
    """

    network: Network
    name: str
    trained_on: str | None
    layers_in_file: int
    label: str


def _floats(given: object, key: str, where: str, channels: int) -> tuple[float, ...]:
    good = (
        isinstance(given, Sequence) and not isinstance(given, str) and len(given) in {1, channels}
    )
    values: list[float] = []
    for item in given if good and isinstance(given, Sequence) else ():
        if isinstance(item, bool) or not isinstance(item, int | float) or not abs(item) < 1e6:
            good = False
            break
        values.append(float(item))
    if not good or (key == "std" and min(values) <= 0):
        sign = "positive " if key == "std" else ""
        raise DataError(f"{key!r} must be 1 or {channels} {sign}numbers", where=where)
    return tuple(values)


def parse_weights_description(given: object, *, where: str) -> WeightsDescription:
    """Check a decoded description.

    Raises
    ------
    DataError
        Naming the key that is missing, unknown or wrong.
    """
    if not isinstance(given, Mapping):
        raise DataError("the description must be an object", where=where)
    unknown = sorted(set(map(str, given)) - _KEYS)
    if unknown:
        raise DataError(f"unknown key {unknown[0]!r}", where=where, remedy=f"Use {sorted(_KEYS)}")
    missing = sorted({"input_shape", "layers", "mean", "std"} - set(given))
    if missing:
        raise DataError(f"key {missing[0]!r} is missing", where=where)
    if given.get("version", 1) != 1:
        raise DataError(f"version {given['version']!r} is not known", where=where)
    shape = given["input_shape"]
    if (
        not isinstance(shape, Sequence)
        or len(shape) not in {1, 3}
        or not all(type(size) is int and 1 <= size <= 1 << 20 for size in shape)
    ):
        raise DataError("'input_shape' must be [size] or [channels, height, width]", where=where)
    texts = {key: given.get(key) for key in _TEXTS}
    for key, text in texts.items():
        if text is not None and not isinstance(text, str):
            raise DataError(f"{key!r} must be a text", where=where)
    return WeightsDescription(
        layers=parse_layers(given["layers"], where=where),
        input_shape=tuple(shape),
        mean=_floats(given["mean"], "mean", where, shape[0]),
        std=_floats(given["std"], "std", where, shape[0]),
        **texts,
    )


def _read_description(path: Path, metadata: Mapping[str, str]) -> WeightsDescription:
    """Take the description from the file itself, else from the sidecar beside it."""
    sidecars = [path.with_suffix(suffix) for suffix in (".json", ".toml")]
    found = next((place for place in sidecars if place.is_file()), None)
    # The file itself comes first: a sidecar may be of another file of the same name.
    where = path.name if METADATA_KEY in metadata or found is None else found.name
    try:
        if METADATA_KEY in metadata:
            return parse_weights_description(json.loads(metadata[METADATA_KEY]), where=where)
        if found is not None:
            # A description is short; a huge one is a mistake or an attack on memory.
            if found.stat().st_size > _MAX_TEXT:
                raise DataError("the description is longer than 1 MiB", where=where)
            text = found.read_text("utf-8")
            decode = json.loads if found.suffix == ".json" else tomllib.loads
            return parse_weights_description(decode(text), where=where)
    except (ValueError, OSError, RecursionError) as error:
        raise DataError(f"the description cannot be read: {error}", where=where) from error
    raise DataError(
        "the file does not say what network it holds",
        where=str(path),
        remedy=f"Put a {sidecars[0].name} or {sidecars[1].name} beside it (docs/fronts.md)",
    )


def _read_tensors(path: Path, expected: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Read exactly the expected float32 tensors; shapes are compared before anything is loaded."""
    with safe_open(path, framework="pt") as file:
        # Counts training steps; unused here, and torch writes it whether asked or not.
        names = {name for name in file.keys() if not name.endswith("num_batches_tracked")}  # noqa: SIM118
        for name, shape in expected.items():
            if name not in names:
                raise DataError(f"tensor {name!r} of shape {shape} is missing", where=str(path))
            # Shape and type from the header: nothing is loaded before it is known to fit.
            view = file.get_slice(name)
            if tuple(view.get_shape()) != shape or view.get_dtype() != "F32":
                raise DataError(
                    f"tensor {name!r} is {view.get_dtype()} {tuple(view.get_shape())}, "
                    f"expected F32 {shape}",
                    where=str(path),
                )
        # A tensor without a layer means that file and description do not belong together.
        extra = sorted(names - set(expected))
        if extra:
            raise DataError(f"tensor {extra[0]!r} belongs to no layer", where=str(path))
        tensors = {name: file.get_tensor(name).clone() for name in expected}
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise DataError(f"tensor {name!r} holds numbers that are not finite", where=str(path))
        # Its root would be NaN in every row.
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise DataError(f"tensor {name!r} holds a negative variance", where=str(path))
    return tensors


def load_weights(
    path: Path,
    cut: int | None = None,
    *,
    read_outs: tuple[ReadOut, ...] = (),
    side: int | None = None,
    mirror: bool = False,
) -> WeightsFile:
    """Read a weights file and keep the layers before index ``cut`` (all of them when None).

    With ``read_outs``, which lie before ``cut``, the layers they need are kept; see `Network` for
    them and for ``mirror``. ``side``: take images of so many pixels a side, not those of the file.

    Raises
    ------
    DataError
        If the file is missing, damaged or not what it describes (names tensor and shape).
    UsageError
        If ``cut`` or a read-out is not between 1 and the number of layers.
    """
    if not path.is_file():
        raise DataError("no such weights file", where=str(path), remedy=how_to_import(path))
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        description = _read_description(path, metadata)
        where = path.name
        shape = description.input_shape
        if side is not None:
            if len(shape) != 3:
                raise UsageError(
                    f"{path.name} takes no images, but rows of shape {list(shape)}",
                    where="front.resize",
                )
            shape = (shape[0], side, side)
        trace_layer_shapes(description.layers, shape, where=where)
        tensors = _read_tensors(path, expected_layer_tensors(description.layers, where=where))
    except (SafetensorError, OSError) as error:
        raise DataError(f"not a readable safetensors file: {error}", where=str(path)) from error
    count = len(description.layers)
    end = count_kept_layers(count, cut, read_outs, name=path.name)
    layers = description.layers[:end]
    kept = {name: tensors[name] for name in expected_layer_tensors(layers, where=path.name)}
    network = Network(
        layers,
        shape,
        description.mean,
        description.std,
        kept,
        read_outs=read_outs,
        mirror=mirror,
    )
    about = [text for text in (description.license, description.source) if text]
    label = description.name or path.name
    if about:
        label = f"{label} ({', '.join(about)})"
    return WeightsFile(network, path.name, description.trained_on, count, label)


def count_kept_layers(
    count: int, cut: int | None, read_outs: tuple[ReadOut, ...], *, name: str
) -> int:
    """Return how many of the ``count`` layers of the network in ``name`` a front keeps.

    Raises
    ------
    UsageError
        If ``cut`` or a read-out is not between 1 and the number of layers.
    """
    end = count if cut is None else cut
    if not 1 <= end <= count:
        raise UsageError(
            f"the cut {end} is not between 1 and {count}, the number of layers in {name}",
            where="front.cut",
        )
    if not read_outs:
        return end
    last = longest_read_out(read_outs)
    if last > end:
        raise UsageError(
            f"there are only {end} layers in {name}, a read-out lies behind {last}",
            where="front.read_outs",
        )
    return last


def save_weights(
    path: Path, description: WeightsDescription, tensors: Mapping[str, Tensor]
) -> None:
    """Write a weights file that describes itself, for `load_weights`.

    Raises
    ------
    ValueError
        If the tensors are not those of the layers.
    """
    expected = expected_layer_tensors(description.layers, where=path.name)
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != expected:
        raise ValueError("the tensors are not those of the layers")
    content: dict[str, object] = {
        "version": 1,
        "input_shape": list(description.input_shape),
        "layers": layers_to_objects(description.layers),
        "mean": list(description.mean),
        "std": list(description.std),
    }
    for key in _TEXTS:
        if getattr(description, key) is not None:
            content[key] = getattr(description, key)
    # A reader never sees half a file, and an interrupted writer leaves none.
    with replace_atomically(path, foreign_folder=True) as part:
        save_file(
            {name: tensor.detach().contiguous() for name, tensor in tensors.items()},
            part,
            metadata={METADATA_KEY: json.dumps(content)},
        )
