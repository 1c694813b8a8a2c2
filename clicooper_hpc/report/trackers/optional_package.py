"""Packages that only some exports need: imported when asked for, one error if they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from clicooper_hpc.errors import EnvironmentUnfitError

__all__ = ["import_package"]


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
        raise EnvironmentUnfitError(
            f"--to {form} needs {name.split('.')[0]}, which cannot be imported ({error})",
            where="export",
            remedy=f"Install it (pip install 'clicooper-hpc[{extra}]'), or write csv.",
        ) from None
