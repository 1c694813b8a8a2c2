"""The job file's reference page and the commented job of `clicooper init`, from the models."""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from clicooper_hpc.config.job import Job

__all__ = ["reference_job", "reference_page"]


def _sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield every table of the job file, nested ones after their parent."""
    pending: list[tuple[str, type[BaseModel]]] = [
        (name, info.annotation)
        for name, info in Job.model_fields.items()
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
    ]
    while pending:
        name, model = pending.pop(0)
        yield name, model
        nested = [
            (f"{name}.{key}", info.annotation)
            for key, info in model.model_fields.items()
            if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
        ]
        # In front: a nested table follows its parent on the page.
        pending = nested + pending


def _keys(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    for key, info in model.model_fields.items():
        if not (isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)):
            yield key, info


def _type_text(annotation: Any) -> str:
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(f'`"{part}"`' for part in parts)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_text(part) for part in parts if part is not type(None))
    if origin is typing.Annotated:
        return _type_text(parts[0])
    if origin is list:
        return f"list of {_type_text(parts[0])}"
    if origin is tuple:
        return f"{len(parts)} numbers"
    if origin is dict:
        return "table"
    names = {str: "text", Path: "path", int: "integer", float: "number", bool: "true or false"}
    return names.get(annotation, str(annotation))


def _limits(info: FieldInfo) -> str:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    found = [
        f"{sign} {getattr(rule, name)}"
        for rule in info.metadata
        for name, sign in signs.items()
        if hasattr(rule, name)
    ]
    return f" ({', '.join(found)})" if found else ""


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(part) for part in value) + "]"
    if isinstance(value, dict):
        return f"{{ {pairs} }}" if (pairs := _toml_pairs(value)) else "{}"
    return f"{value}"


def _toml_pairs(table: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {_toml(value)}" for key, value in table.items())


def _default(info: FieldInfo) -> Any:
    return info.get_default(call_default_factory=True)


def _default_text(info: FieldInfo) -> str:
    value = _default(info)
    if value is PydanticUndefined:
        return "required"
    return "-" if value is None else f"`{_toml(value)}`"


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def reference_page() -> str:
    """Return docs/job-file.md."""
    lines = [
        "# Job file reference",
        "",
        "Generated from the models by `make docs`; do not edit. A job is a TOML file. Unknown keys",
        'are errors. `extends = "base.toml"` at the top takes one other file as its base;',
        "`--set section.key=value` overrides single keys. Paths are relative to the file that sets",
        "them (for `--set`: to the current folder). The resolved job is stored in every run.",
        "",
        "Editors: [job.schema.json](job.schema.json) is the JSON Schema of this page, also from",
        "`clicooper schema -o job.schema.json`. Editors with Taplo (VS Code: Even Better TOML)",
        "check a job and complete its keys by the schema that its first line names, relative to",
        "the job file: `#:schema job.schema.json`. `clicooper init` writes both. What keys must",
        "be together only `clicooper plan` knows.",
        "",
        "A key as other programs call it is no key here, but the error says which one is meant:",
        "`training.lr` is answered with `training.learning_rate`.",
    ]
    for name, model in _sections():
        lines += ["", f"## [{name}]", "", _one_line(model.__doc__), ""]
        lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
        for key, info in _keys(model):
            kind = f"{_type_text(info.annotation)}{_limits(info)}".replace("|", "\\|")
            lines.append(
                f"| `{key}` | {kind} | {_default_text(info)} | {_one_line(info.description)} |"
            )
    return "\n".join(lines) + "\n"


def reference_job(starter: Mapping[str, Any]) -> str:
    """Return a job file in which every key stands: those of ``starter`` set, others commented.

    ``starter``: sections of a job that runs as it is, as TOML has them.
    """
    lines = [
        "# A clicooper job that runs as it is, on the 8x8 digits of scikit-learn. Every other key",
        "# stands with its default behind a #. Check it with: clicooper plan job.toml --ranks 4",
        "# Start it with: mpirun -n 4 clicooper run job.toml",
        "# For data of your own set data.path, and a front that takes their shape: [front] below.",
    ]
    for name, model in _sections():
        lines += ["", f"# {_one_line(model.__doc__)}", f"[{name}]"]
        chosen: Any = starter
        for part in name.split("."):
            chosen = chosen.get(part, {})
        for key, info in _keys(model):
            lines.append(f"# {_one_line(info.description)}")
            value = _default(info)
            if key in chosen:
                if value is not None and value is not PydanticUndefined:
                    lines[-1] += f" Default: {_toml(value)}."
                lines.append(f"{key} = {_toml(chosen[key])}")
            elif value is None:
                # TOML has no null: a key without default stays a comment.
                lines.append(f"# {key} =")
            else:
                lines.append(f"# {key} = {_toml(value)}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference_page(), encoding="utf-8")
