"""Writing the delivered model in a format of others, read back and compared before it appears."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from clicooper_hpc.inference.exports.export_request import check_export
from clicooper_hpc.inference.exports.model_card import model_card
from clicooper_hpc.inference.exports.onnx_graph import write_onnx_graph
from clicooper_hpc.inference.exports.torch_program import write_torch_program
from clicooper_hpc.inference.exports.weights_folder import write_weights_folder
from clicooper_hpc.inference.load_model import LoadedModel
from clicooper_hpc.runstore.new_output import new_output

__all__ = ["export_model"]


def export_model(
    model: LoadedModel, form: str, target: Path, *, description: str | None = None
) -> float:
    """Write the model to ``target``, which appears only when it was read back and compared.

    Parameters
    ----------
    form
        One of `MODEL_FORMATS`.
    target
        A file ending in ``.pt2`` or ``.onnx``, or a folder.
    description
        What the owner says of the data on the model card (hf-folder).

    Returns
    -------
    float
        How far probabilities of what was written are at most from the model's on made-up rows; 0:
        equal to the bit. Of ``safetensors``, which computes nothing, tensors are compared instead.

    Raises
    ------
    UsageError
        Unknown format, another ending, ``target`` exists already, no folder for it does or it would
        lie in a run folder, a description that no format shows, or a network that cannot be
        exported.
    EnvironmentUnfitError
        It cannot be written, what is needed is not installed, or what was read back says something
        else. Nothing is left then.
    """
    chosen = check_export(form, target, description=description)
    with new_output(target, "the model", folder=not chosen.ending) as made:
        return _WRITERS[form](model, made, description)


def _write_hf_folder(model: LoadedModel, folder: Path, description: str | None) -> float:
    write_weights_folder(model, folder)
    off = write_torch_program(model, folder / "model.pt2")
    card = model_card(model, description=description)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return off


#: By name of the format: writes a file, or into a folder, and says how far it is off.
_WRITERS: dict[str, Callable[[LoadedModel, Path, str | None], float]] = {
    "torch": lambda model, path, _: write_torch_program(model, path),
    "onnx": lambda model, path, _: write_onnx_graph(model, path),
    "safetensors": lambda model, path, _: write_weights_folder(model, path),
    "hf-folder": _write_hf_folder,
}
