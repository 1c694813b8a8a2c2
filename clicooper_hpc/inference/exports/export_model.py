"""Writing the delivered model in a format of others, read back and compared before it appears."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clicooper_hpc.errors import UsageError
from clicooper_hpc.inference.exports.model_card import model_card
from clicooper_hpc.inference.exports.onnx_graph import write_onnx_graph
from clicooper_hpc.inference.exports.torch_program import write_torch_program
from clicooper_hpc.inference.exports.weights_folder import write_weights_folder
from clicooper_hpc.inference.load_model import LoadedModel
from clicooper_hpc.runstore.new_output import new_output

__all__ = ["EXPORT_FORMATS", "export_model"]


@dataclass(frozen=True, slots=True)
class _Format:
    """Writes a file that ends in ``ending``, or into a folder where that is empty.

    ``compared``: what of it is read back and compared with the model's.
    """

    ending: str
    write: Callable[[LoadedModel, Path, str | None], float]
    compared: str = "answers"


def export_model(
    model: LoadedModel, form: str, target: Path, *, description: str | None = None
) -> float:
    """Write the model to ``target``, which appears only when it was read back and compared.

    Parameters
    ----------
    form
        One of `EXPORT_FORMATS`.
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
        Unknown format, another ending, ``target`` exists already or no folder for it does, a
        description that no format shows, or a network that cannot be exported.
    EnvironmentUnfitError
        It cannot be written, what is needed is not installed, or what was read back says something
        else. Nothing is left then.
    """
    chosen = EXPORT_FORMATS.get(form)
    if chosen is None:
        raise UsageError(
            f"there is no format {form!r}",
            where="--to",
            remedy=f"Use one of {', '.join(EXPORT_FORMATS)}.",
        )
    if chosen.ending and target.suffix.lower() != chosen.ending:
        raise UsageError(f"must end in {chosen.ending} for --to {form}", where=f"-o {target}")
    if description is not None and form != "hf-folder":
        raise UsageError("only a model card shows it: --to hf-folder", where="--describe")
    with new_output(target, "the model") as made:
        if not chosen.ending:
            made.mkdir()
        return chosen.write(model, made, description)


def _write_hf_folder(model: LoadedModel, folder: Path, description: str | None) -> float:
    write_weights_folder(model, folder)
    off = write_torch_program(model, folder / "model.pt2")
    card = model_card(model, description=description)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return off


#: By name on the command line.
EXPORT_FORMATS = {
    "torch": _Format(".pt2", lambda model, path, _: write_torch_program(model, path)),
    "onnx": _Format(".onnx", lambda model, path, _: write_onnx_graph(model, path)),
    "safetensors": _Format(
        "", lambda model, path, _: write_weights_folder(model, path), compared="tensors"
    ),
    "hf-folder": _Format("", _write_hf_folder),
}
