"""Load a job file: TOML, one `extends`, `--set`, and errors that name file, line and key."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from clicooper_hpc.config.job import Job
from clicooper_hpc.config.other_names import job_keys, suggest_key
from clicooper_hpc.config.toml_text import (
    check_toml_values,
    parse_toml_text,
    parse_toml_value,
    read_toml_file,
)
from clicooper_hpc.errors import RunFolderError, UsageError

__all__ = ["load_canonical_job", "load_job", "load_job_text", "reload_job"]

#: Keys that hold a path, resolved against the file that sets them.
_PATH_KEYS = (
    ("data", "path"),
    ("front", "weights"),
    ("front", "run"),
    ("front", "public_data"),
    ("privacy", "account"),
)
_EMBEDDED = "digits"
#: Characters of a wrong value that an error shows.
_MOST_SHOWN = 100
#: Options belong to the network they are given with: another network's would not fit.
_WHOLE_TABLES = ("model.options",)


def load_job(path: Path, overrides: Sequence[str] = ()) -> Job:
    """Load ``path``, apply ``overrides`` (``section.key=value``) and check everything.

    Raises
    ------
    UsageError
        Names the file, the line where it can be found, the key, and the nearest valid key.
    """
    return _load_table(_read(path), path, path.parent, overrides)


def load_job_text(text: str, overrides: Sequence[str], *, where: str) -> Job:
    """Load a job that stands in no file, as `load_job`; its paths start in the current folder.

    ``where``: what to call it in errors.
    """
    table = parse_toml_text(text, where=where)
    return _load_table(table, Path(where), Path.cwd(), overrides)


def _load_table(top: dict[str, Any], path: Path, folder: Path, overrides: Sequence[str]) -> Job:
    """Return the job of the table ``top``, which stands in ``path`` and starts in ``folder``."""
    table, sources = _with_base(top, path, folder)
    for text in overrides:
        _apply_override(table, sources, text)
    # Modules of the user's own are looked for beside the job file.
    table["folder"] = os.path.realpath(folder)
    try:
        return Job.model_validate(table)
    except ValidationError as error:
        raise _explain_mistakes(error, sources, path) from None


def reload_job(job: Job, overrides: Sequence[str]) -> Job:
    """Return ``job`` with ``overrides`` (``section.key=value``) applied and checked.

    Raises
    ------
    UsageError
        As `load_job`.
    """
    table, sources = job.model_dump(mode="json"), dict[str, Path]()
    for text in overrides:
        _apply_override(table, sources, text)
    table["folder"] = job.folder
    try:
        return Job.model_validate(table)
    except ValidationError as error:
        raise _explain_mistakes(error, sources, Path("--set")) from None


def load_canonical_job(text: str, folder: str = ".") -> Job:
    """Rebuild a job from `Job.canonical`; ``folder`` is where modules of the user's own lie.

    Raises
    ------
    RunFolderError
        This version knows no such job: another one wrote it, or the file is damaged.
    """
    try:
        # The folder is set behind validation: it is no part of the canonical text.
        return Job.model_validate_json(text).model_copy(update={"folder": folder})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in first["loc"] if not _is_branch_name(str(part)))
        raise RunFolderError(
            f"the job that the run was made from cannot be read by this version ({first['msg']})",
            where=f"run.h5, resolved_job, {key}" if key else "run.h5, resolved_job",
            remedy="Use the version that made the run: `clicooper inspect RUN` names it.",
        ) from None


def _with_base(
    table: dict[str, Any], path: Path, folder: Path
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Return ``table`` over the one it extends, and, per dotted key, the file that set it."""
    sources: dict[str, Path] = {}
    base_name = table.pop("extends", None)
    base: dict[str, Any] = {}
    if base_name is not None:
        if not isinstance(base_name, str):
            raise UsageError("extends must be the name of one file", where=str(path))
        base_path = folder / base_name
        base = _read(base_path)
        if "extends" in base:
            raise UsageError(
                f"{base_path.name} itself extends another file",
                where=str(path),
                remedy="One level of extends is allowed: merge the two base files.",
            )
        # Before the merge: afterwards nobody knows which file a path came from.
        _resolve_paths(base, base_path.parent)
        _note_sources(base, base_path, sources)
    _resolve_paths(table, folder)
    _note_sources(table, path, sources)
    return _merge(base, table, whole=_WHOLE_TABLES), sources


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_toml_file(path)
    except FileNotFoundError:
        raise UsageError(
            "no such job file", where=str(path), remedy="`clicooper init` writes a commented one."
        ) from None
    except IsADirectoryError:
        raise UsageError(
            "is a folder, not a job file",
            where=str(path),
            remedy="Name a TOML file; `clicooper init` writes a commented one.",
        ) from None
    except OSError as error:
        raise UsageError(f"cannot be read ({error.strerror})", where=str(path)) from None


def _merge(
    base: dict[str, Any], top: dict[str, Any], at: str = "", whole: Sequence[str] = ()
) -> dict[str, Any]:
    """Lay ``top`` over ``base``, table by table; tables named in ``whole`` are replaced whole."""
    merged = dict(base)
    for key, value in top.items():
        old, dotted = merged.get(key), f"{at}{key}"
        if isinstance(old, dict) and isinstance(value, dict) and dotted not in whole:
            merged[key] = _merge(old, value, f"{dotted}.", whole)
        else:
            merged[key] = value
    return merged


def _resolve_paths(table: dict[str, Any], folder: Path) -> None:
    for section, key in _PATH_KEYS:
        part = table.get(section)
        if isinstance(part, dict) and isinstance(part.get(key), str) and part[key] != _EMBEDDED:
            if not part[key].strip():
                raise UsageError(
                    "is empty",
                    where=f"{section}.{key}",
                    remedy="Give a path, or leave the key out.",
                )
            try:
                part[key] = str((folder / part[key]).resolve())
            # A circle of links, or a name that no file system takes.
            except (OSError, RuntimeError) as error:
                raise UsageError(f"{section}.{key} leads nowhere: {error}") from None


def _note_sources(
    table: dict[str, Any], path: Path, sources: dict[str, Path], at: str = ""
) -> None:
    for key, value in table.items():
        dotted = f"{at}{key}"
        sources[dotted] = path
        if isinstance(value, dict):
            _note_sources(value, path, sources, f"{dotted}.")


def _apply_override(table: dict[str, Any], sources: dict[str, Path], text: str) -> None:
    dotted, sign, value_text = text.partition("=")
    keys = [part.strip() for part in dotted.split(".")]
    if not sign or len(keys) < 2 or not all(keys):
        raise UsageError(
            f"--set {_shortened(text)} is not of the form section.key=value",
            remedy="For example: --set training.epochs=3",
        )
    where = f"--set {_shortened(text)}"
    part: dict[str, Any] = {keys[-1]: parse_toml_value(value_text, where=where)}
    for key in reversed(keys[:-1]):
        part = {key: part}
    check_toml_values(part, where=where)
    # Typed on the command line, so relative to where the user stands.
    _resolve_paths(part, Path.cwd())
    _note_sources(part, Path("--set"), sources)
    # A single option is laid over the others; a whole table given in one --set replaces them.
    whole = [name for name in _WHOLE_TABLES if dotted.strip() == name]
    table.update(_merge(table, part, whole=whole))


def _explain_mistakes(error: ValidationError, sources: dict[str, Path], path: Path) -> UsageError:
    """Turn pydantic's report into one line about the first mistake."""
    mistakes = error.errors(include_url=False, include_context=False, include_input=True)
    # One line, one mistake: the first is often the cause of the others.
    first = mistakes[0]
    keys = [str(part) for part in first["loc"] if not _is_branch_name(str(part))]
    dotted = ".".join(key[:_MOST_SHOWN] for key in keys)
    # The file that set the key, or the nearest table around it that a file has set.
    source = next(
        (
            sources[".".join(keys[:n])]
            for n in range(len(keys), 0, -1)
            if ".".join(keys[:n]) in sources
        ),
        path,
    )
    line = _line_of(source, keys)
    where = f"{source}:{line}" if line else str(source)
    remedy = None
    if first["type"] == "extra_forbidden":
        # Cut, for the comparison takes time with the square of the length.
        remedy = suggest_key([*keys[:-1], keys[-1][:_MOST_SHOWN]], job_keys(Job))
        what = f"unknown key {dotted}"
        remedy = remedy or f"Known keys: {', '.join(sorted(_known_keys(keys[:-1])))}."
    elif first["type"] == "missing":
        what = f"key {dotted} is missing"
    else:
        message = first["msg"].removeprefix("Value error, ")
        what = f"{dotted}: {message}" if dotted and dotted not in message else message
        if first["type"] != "value_error":
            what += f" (got {_shortened(first['input'])})"
    if len(mistakes) > 1:
        remedy = f"{remedy or ''} ({len(mistakes) - 1} more mistakes follow.)".strip()
    return UsageError(what, where=where, remedy=remedy)


def _shortened(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]}..."


def _is_branch_name(part: str) -> bool:
    # pydantic appends the name of the union branch it tried, e.g. "list[int]" or "literal[...]".
    return part.startswith(("list[", "literal[", "function-"))


def _known_keys(keys: Sequence[str]) -> list[str]:
    model: type[BaseModel] = Job
    for key in keys:
        annotation = model.model_fields[key].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return [name for name in model.model_fields if name != "folder"]


def _line_of(path: Path, keys: Sequence[str]) -> int | None:
    """Find the line that sets ``keys`` by scanning headers; None when it is not a file's."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    section: list[str] = []
    best: int | None = None
    for number, raw in enumerate(lines, start=1):
        text = raw.strip()
        # A scan of lines, because tomllib keeps no positions.
        if text.startswith("[") and not text.startswith("[["):
            section = [
                part.strip().strip('"') for part in text.strip("[]").split("]")[0].split(".")
            ]
            if section == list(keys[: len(section)]):
                best = number
        elif "=" in text and not text.startswith("#"):
            here = [*section, *[p.strip().strip('"') for p in text.split("=", 1)[0].split(".")]]
            if here == list(keys[: len(here)]):
                return number
    return best
