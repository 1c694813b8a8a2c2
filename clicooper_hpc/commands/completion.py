"""`clicooper completion`: the script by which a shell completes commands, options and values."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from clicooper_hpc.commands.command import Command, print_report
from clicooper_hpc.errors import EnvironmentUnfitError

__all__ = ["COMPLETED", "COMPLETION"]

#: Values of free words, by name of the argument as the help shows it. Written down here, because
#: what knows them takes seconds to import; tests compare both.
COMPLETED: Final[Mapping[str, Sequence[str]]] = {
    "FORMAT": (
        "torch", "onnx", "safetensors", "hf-folder", "tensorboard", "mlflow", "csv", "parquet"
    ),
    "KIND": ("hdf5", "cifar10", "cifar100", "idx", "folder", "npz", "csv", "parquet", "arrow"),
}  # fmt: skip
#: Arguments that are folders, whatever their type.
_FOLDERS: Final = ("RUN", "OTHER", "DIR", "FOLDER")


def _add_completion_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shell", metavar="SHELL", choices=("bash", "zsh", "tcsh"), help="bash, zsh or tcsh"
    )


def _complete(arguments: argparse.Namespace) -> int:
    try:
        shtab: Any = importlib.import_module("shtab")
    except ImportError:
        raise EnvironmentUnfitError(
            "completion needs shtab, which is not installed",
            where="completion",
            remedy="Install it: pip install shtab",
        ) from None
    # The parser of all commands, which `build_parser` leaves here.
    parser: argparse.ArgumentParser = arguments.parser
    for action in _actions(parser):
        values = COMPLETED.get(str(action.metavar))
        if values is not None:
            action.choices = values
        elif action.metavar in _FOLDERS:
            action.complete = shtab.DIRECTORY
        elif action.type is Path:
            action.complete = shtab.FILE
    return print_report(shtab.complete(parser, shell=arguments.shell).rstrip("\n"))


def _actions(parser: argparse.ArgumentParser) -> Iterator[Any]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _actions(below)
        else:
            yield action


COMPLETION = Command(
    "completion",
    "script for your shell: completes commands and options",
    _add_completion_options,
    _complete,
)
