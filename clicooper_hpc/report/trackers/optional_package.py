"""Packages that only some exports need: imported when asked for, one error if they are missing."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any

from clicooper_hpc.errors import EnvironmentUnfitError

__all__ = ["check_package", "import_package"]


def import_package(name: str, form: str, *, extra: str) -> Any:
    """Return the module ``name``, which ``--to FORM`` needs; ``extra`` is what installs it.

    Raises
    ------
    EnvironmentUnfitError
        It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise _missing(name, form, extra, f"cannot be imported ({error})") from None


def check_package(name: str, form: str, *, extra: str) -> None:
    """Raise as `import_package` if ``name`` is not installed, without importing it."""
    if find_spec(name) is None:
        raise _missing(name, form, extra, "is not installed")


def _missing(name: str, form: str, extra: str, why: str) -> EnvironmentUnfitError:
    return EnvironmentUnfitError(
        f"--to {form} needs {name.split('.')[0]}, which {why}",
        where="export",
        remedy=f"Install it (pip install 'clicooper-hpc[{extra}]'), or write csv.",
    )
