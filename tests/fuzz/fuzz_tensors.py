"""Readers of tensor files: safetensors, weights of public fronts, layer lists, checkpoints."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from fuzz_target import FuzzTarget

from clicooper_hpc.errors import ClicooperError, RunFolderError
from clicooper_hpc.fronts.layer_spec import (
    expected_layer_tensors,
    layers_to_objects,
    parse_layers,
    trace_layer_shapes,
)
from clicooper_hpc.fronts.weights import (
    WeightsDescription,
    load_weights,
    parse_weights_description,
    save_weights,
)
from clicooper_hpc.provenance.safetensors_layout import read_safetensors_layout
from clicooper_hpc.provenance.tensor_digest import digest_tensors
from clicooper_hpc.runstore.checkpoints import (
    FileDigest,
    commit_checkpoint,
    find_checkpoints,
    read_checkpoint_file,
    store_checkpoint_file,
)
from clicooper_hpc.runstore.safetensors_files import (
    load_safetensors,
    pack_safetensors,
    unpack_safetensors,
    unpack_safetensors_texts,
)
from clicooper_hpc.training.message_digests import CHANNELS, ChannelRecord
from clicooper_hpc.training.stage_progress import StageProgress

_DESCRIPTION = {
    "version": 1,
    "input_shape": [2, 8, 8],
    "layers": [
        {"type": "Conv2d", "in_channels": 2, "out_channels": 3, "kernel_size": 3, "groups": 1},
        {"type": "BatchNorm2d", "num_features": 3},
        {"type": "ReLU"},
        {"type": "MaxPool2d", "kernel_size": 2, "stride": 2, "padding": 0},
        {"type": "GroupNorm", "num_groups": 1, "num_channels": 3, "eps": 1e-5},
        {"type": "GELU"},
        {"type": "AvgPool2d", "kernel_size": 1, "stride": 1, "padding": 0},
        {"type": "ZeroPad2d", "before": 0, "after": 1},
        {
            "type": "Residual",
            "layers": [
                {"type": "ReLU6"},
                {
                    "type": "Residual",
                    "layers": [
                        {
                            "type": "Conv2d",
                            "in_channels": 3,
                            "out_channels": 3,
                            "kernel_size": 1,
                            "groups": 3,
                        }
                    ],
                },
            ],
        },
        {"type": "AdaptiveAvgPool2d", "output_size": 1},
        {"type": "Identity"},
        {"type": "SpatialMean"},
        {"type": "Flatten"},
        {"type": "LayerNorm", "normalized_shape": 3, "eps": 1e-5},
        {"type": "Linear", "in_features": 3, "out_features": 2},
    ],
    "mean": [0.4, 0.6],
    "std": [0.25],
    "trained_on": "nothing",
    "name": "net",
    "license": "none",
    "source": "nowhere",
}


@functools.cache
def _folder() -> Path:
    # Kept until the process ends.
    _folder.held = TemporaryDirectory(prefix="fuzz-")  # type: ignore[attr-defined]
    return Path(_folder.held.name)  # type: ignore[attr-defined]


def _tensors() -> dict[str, torch.Tensor]:
    return {
        "a": torch.arange(6, dtype=torch.float32).reshape(2, 3),
        "b/c": torch.zeros((), dtype=torch.bfloat16),
        "empty": torch.zeros((0, 4), dtype=torch.int64),
    }


def _tensor_files() -> list[bytes]:
    return [pack_safetensors(_tensors(), {"step": "3"}), pack_safetensors({}, {})]


def _read_layout(content: bytes) -> None:
    layout = read_safetensors_layout(content, where="input")
    assert sum(len(one.content) for one in layout.values()) <= len(content)
    digest_tensors(content)


def _read_tensors(content: bytes) -> None:
    """The same bytes as every reader of tensor files takes them."""
    path = _folder() / "tensors.safetensors"
    path.write_bytes(content)
    errors: list[ClicooperError] = []
    for read in (
        lambda: load_safetensors(path, within=_folder()),
        lambda: unpack_safetensors_texts(content, where="input"),
        lambda: unpack_safetensors(content, where="input"),
    ):
        try:
            read()
        except ClicooperError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _weights_files() -> list[bytes]:
    path = _folder() / "seed.safetensors"
    description = parse_weights_description(_DESCRIPTION, where="seed")
    shapes = expected_layer_tensors(description.layers, where="seed")
    save_weights(path, description, {name: torch.ones(shape) for name, shape in shapes.items()})
    return [path.read_bytes()]


def _read_weights(content: bytes) -> None:
    path = _folder() / "weights.safetensors"
    path.write_bytes(content)
    load_weights(path, None)


def _descriptions() -> list[bytes]:
    return [json.dumps(_DESCRIPTION).encode()]


def _parse_description(content: bytes) -> WeightsDescription:
    try:
        given = json.loads(content)
    except (ValueError, RecursionError):
        given = content.decode("utf-8", "replace")
    return parse_weights_description(given, where="input")


def _read_description(content: bytes) -> None:
    layers = _parse_description(content).layers
    assert parse_layers(layers_to_objects(layers), where="input") == layers


def _trace_description(content: bytes) -> None:
    description = _parse_description(content)
    expected_layer_tensors(description.layers, where="input")
    trace_layer_shapes(description.layers, description.input_shape, where="input")


def _sidecars() -> list[bytes]:
    text = json.dumps({**_DESCRIPTION, "mean": [0.5], "layers": _DESCRIPTION["layers"]})
    return [b"\0" + text.encode(), b"\1version = 1\ninput_shape = [4]\nmean = [0]\nstd = [1]\n"]


def _read_sidecar(content: bytes) -> None:
    """First byte: JSON or TOML; the rest lies beside a file that does not describe itself."""
    weights = _folder() / "bare.safetensors"
    if not weights.exists():
        description = parse_weights_description(_DESCRIPTION, where="seed")
        shapes = expected_layer_tensors(description.layers, where="seed")
        tensors = {name: torch.ones(shape) for name, shape in shapes.items()}
        weights.write_bytes(pack_safetensors(tensors, {}))
    suffixes = (".json", ".toml")
    for suffix in suffixes:
        weights.with_suffix(suffix).unlink(missing_ok=True)
    weights.with_suffix(suffixes[content[0] % 2 if content else 0]).write_bytes(content[1:])
    load_weights(weights, None)


def _indexes() -> list[bytes]:
    run = _folder() / "seed-run"
    digest = store_checkpoint_file(run, 12, "rank-000.safetensors", b"x")
    commit_checkpoint(run, run_id="0" * 32, step=12, files={"rank-000.safetensors": digest}, keep=2)
    return [(run / "checkpoints" / "step-00000012" / "index.json").read_bytes()]


def _read_index(content: bytes) -> None:
    """An index that does not serve is passed over: then there is an older checkpoint."""
    with contextlib.suppress(ValueError, TypeError, RecursionError, AttributeError):
        # Half of the time under a right digest, which whoever changes an index can make.
        value = json.loads(content)
        if len(content) % 2 and value.pop("sha256", None):
            text = json.dumps(value, sort_keys=True, separators=(",", ":"))
            content = json.dumps({**value, "sha256": sha256(text.encode()).hexdigest()}).encode()
    run = _folder() / "run"
    folder = run / "checkpoints" / "step-00000012"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").write_bytes(content)
    for found in find_checkpoints(run):
        assert found.step == 12
        assert all(isinstance(digest, FileDigest) for digest in found.files.values())
        with contextlib.suppress(RunFolderError):
            read_checkpoint_file(found, "rank-000.safetensors")


def _progresses() -> list[bytes]:
    records = {
        channel: ChannelRecord(digests=[bytes(32)] * 2, places=[(0, 0), (0, 1)], size=128)
        for channel in CHANNELS
    }
    progress = StageProgress(20, records, "2026-01-02T03:04:05Z", "0" * 64, "1" * 64)
    return [pack_safetensors(*progress.pack_progress())]


def _read_progress(content: bytes) -> None:
    texts = unpack_safetensors_texts(content, where="input")
    tensors = unpack_safetensors(content, where="input")
    StageProgress.unpack_progress(tensors, texts, where="input")


TARGETS: Sequence[FuzzTarget] = (
    FuzzTarget("safetensors-layout", _tensor_files, _read_layout),
    FuzzTarget("safetensors-file", _tensor_files, _read_tensors, files=True),
    FuzzTarget("front-weights", _weights_files, _read_weights, files=True),
    FuzzTarget("front-description", _descriptions, _read_description, form="json"),
    FuzzTarget("front-network", _descriptions, _trace_description, form="json", files=True),
    FuzzTarget("front-sidecar", _sidecars, _read_sidecar, files=True),
    FuzzTarget("checkpoint-index", _indexes, _read_index, form="json"),
    FuzzTarget("stage-progress", _progresses, _read_progress, files=True),
)
