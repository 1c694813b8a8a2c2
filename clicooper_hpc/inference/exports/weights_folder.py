"""The model as one safetensors file with unique names, and a config that says what it computes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from clicooper_hpc.errors import EnvironmentUnfitError
from clicooper_hpc.inference.load_model import LoadedModel
from clicooper_hpc.owner.clean_rows import RowClip

__all__ = ["model_config", "write_weights_folder"]

#: Names of the files in the folder.
WEIGHTS, CONFIG = "model.safetensors", "config.json"


def write_weights_folder(model: LoadedModel, folder: Path) -> float:
    """Write weights and config into ``folder``, read them back; return 0: equal to the bit.

    Raises
    ------
    EnvironmentUnfitError
        Read back, a tensor is another one.
    """
    state = {name: value.contiguous() for name, value in model.classifier.state_dict().items()}
    # Not save_file: that makes files which their user alone may read.
    (folder / WEIGHTS).write_bytes(save(state, {"format": "pt"}))
    text = json.dumps(model_config(model), indent=2, ensure_ascii=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
    stored = load_file(folder / WEIGHTS)
    odd = [name for name in state.keys() | stored.keys() if not _same(state, stored, name)]
    if odd:
        raise EnvironmentUnfitError(
            f"read back, tensor {sorted(odd)[0]} is not the one that was written",
            where=WEIGHTS,
            remedy="Write to another disk.",
        )
    return 0.0


def model_config(model: LoadedModel) -> dict[str, Any]:
    """Return what the model takes, computes and says, as JSON values."""
    classifier, job = model.classifier, model.job
    clip = classifier.clean_rows.clip
    names = list(classifier.class_names)
    config: dict[str, Any] = {
        "format": "clicooper-model",
        "format_version": 1,
        "run_id": str(model.run.attrs["run_id"]),
        "input_shape": list(classifier.input_shape),
        "input_dtype": "float32",
        "output": "probabilities of the classes, float32 [rows, classes]",
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
        "front": json.loads(model.front.front_settings())["stages"],
        "clip": None,
        "network": {"name": job.model.name, "options": job.model.options},
        "layers": [str(layer) for layer in classifier.network],
        "pooling": "softmax of the mean logarithms of the names' probabilities"
        if classifier.pooling.averages_logarithms
        else "sum of the names' probabilities",
        "scores_temperature": classifier.temperature,
        "tensors": {
            name: {"dtype": str(value.dtype).removeprefix("torch."), "shape": list(value.shape)}
            for name, value in classifier.state_dict().items()
        },
    }
    if isinstance(clip, RowClip):
        config["clip"] = {
            "bound": clip.bound,
            "of": "each number" if clip.by_element else "L2 norm of a row",
            "non_negative": clip.non_negative,
        }
    # Of other samples the range is private: their least and largest number.
    if model.input.stored_as == "uint8":
        config["input_range"] = [0.0, 1.0]
        config["input_scaling"] = "bytes divided by 255"
    return config


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], name: str) -> bool:
    if name not in one or name not in other or one[name].dtype != other[name].dtype:
        return False
    return torch.equal(one[name], other[name])
