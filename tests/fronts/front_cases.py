"""Small fronts and weights files for the tests of the front."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from clicooper_hpc.fronts.layer_spec import build_layers, parse_layers
from clicooper_hpc.fronts.weights import METADATA_KEY

CONV = {"type": "Conv2d", "in_channels": 2, "out_channels": 6, "kernel_size": 3, "padding": 1}
LAYERS: list[dict[str, object]] = [
    {**CONV, "bias": False},
    {"type": "BatchNorm2d", "num_features": 6},
    {"type": "ReLU"},
    {"type": "MaxPool2d", "kernel_size": 2, "stride": 2},
    {"type": "Conv2d", "in_channels": 6, "out_channels": 8, "kernel_size": 3},
    {"type": "GroupNorm", "num_groups": 2, "num_channels": 8},
    {"type": "GELU"},
    {"type": "AdaptiveAvgPool2d", "output_size": 1},
    {"type": "Flatten"},
    {"type": "Linear", "in_features": 8, "out_features": 5},
]
SHAPE = (2, 8, 8)


def description(**changes: object) -> dict[str, object]:
    """Return the description of the test network, with changes; None removes a key."""
    content: dict[str, object] = {
        "version": 1,
        "input_shape": list(SHAPE),
        "layers": LAYERS,
        "mean": [0.4, 0.6],
        "std": [0.25, 0.5],
        "trained_on": "nothing",
        **changes,
    }
    return {key: value for key, value in content.items() if value is not None}


def tensors() -> dict[str, torch.Tensor]:
    """Return weights of the test network with running statistics that matter."""
    torch.manual_seed(5)
    network = build_layers(parse_layers(LAYERS, where="test"))
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state["1.running_mean"] = torch.linspace(-0.5, 0.5, 6)
    state["1.running_var"] = torch.linspace(0.2, 2.0, 6)
    return state


def write(
    path: Path,
    content: dict[str, object] | None,
    state: dict[str, torch.Tensor] | None = None,
) -> Path:
    """Write a weights file; without ``content`` it does not describe itself."""
    metadata = None if content is None else {METADATA_KEY: json.dumps(content)}
    save_file(tensors() if state is None else state, path, metadata=metadata)
    return path


def random_rows(count: int, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> NDArray[np.float32]:
    """Return rows in [0, 1]."""
    return np.random.default_rng(seed).random((count, *shape), dtype=np.float32)
