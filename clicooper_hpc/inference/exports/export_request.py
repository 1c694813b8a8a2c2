"""What is known of an export before a model is loaded: format, place, packages; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from clicooper_hpc.errors import EnvironmentUnfitError, UsageError
from clicooper_hpc.runstore.new_output import check_new_output

__all__ = ["MODEL_FORMATS", "ModelFormat", "check_export"]


@dataclass(frozen=True, slots=True)
class ModelFormat:
    """A format of the model.

    Attributes
    ----------
    ending
        Of its file; empty: it is a folder.
    packages
        What it needs beside torch, all of the extra ``export``.
    compared
        What of it is read back and compared with the model's.
    """

    ending: str
    packages: tuple[str, ...] = ()
    compared: str = "answers"


#: By name on the command line.
MODEL_FORMATS = {
    "torch": ModelFormat(".pt2"),
    "onnx": ModelFormat(".onnx", ("onnx", "onnxscript", "onnxruntime")),
    "safetensors": ModelFormat("", compared="tensors"),
    "hf-folder": ModelFormat(""),
}


def check_export(
    form: str, target: Path, *, description: str | None, others: tuple[str, ...] = ()
) -> ModelFormat:
    """Return the format called ``form`` if ``target`` can be written in it.

    ``others``: formats of the command line that are none of a model, for the remedy.

    Raises
    ------
    UsageError
        Unknown format, another ending, ``target`` exists already, no folder for it does or it would
        lie in a run folder, or a description that no format shows.
    EnvironmentUnfitError
        A package is not installed.
    """
    chosen = MODEL_FORMATS.get(form)
    if chosen is None:
        raise UsageError(
            f"there is no format {form!r}",
            where="--to",
            remedy=f"Use one of {', '.join([*MODEL_FORMATS, *others])}.",
        )
    if chosen.ending and target.suffix.lower() != chosen.ending:
        raise UsageError(f"must end in {chosen.ending} for --to {form}", where=f"-o {target}")
    if description is not None and form != "hf-folder":
        raise UsageError("only a model card shows it: --to hf-folder", where="--describe")
    check_new_output(target)
    for name in chosen.packages:
        if find_spec(name) is None:
            raise EnvironmentUnfitError(
                f"--to {form} needs {', '.join(chosen.packages)}; {name} is not installed",
                where="export",
                remedy="Install them: pip install 'clicooper-hpc[export]'",
            )
    return chosen
