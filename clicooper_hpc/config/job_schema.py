"""JSON Schema of the job file, for editors: keys, values and their meaning while one types.

Draft 7 without references, which the schema readers of TOML editors (Taplo) know in full. It says
what one key may be; what keys must be together only `clicooper plan` and `run` say.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from clicooper_hpc.config.job import Job

__all__ = ["job_schema", "job_schema_text"]

_EXTENDS: Final = {
    "type": "string",
    "description": "Another job file, relative to this one, whose keys are taken where this one "
    "has none.",
}


def job_schema() -> dict[str, Any]:
    """Return the schema as JSON values."""
    raw = Job.model_json_schema()
    known = raw.pop("$defs")
    schema: dict[str, Any] = _plain(raw, known)
    # Set behind loading: no key of a file.
    del schema["properties"]["folder"]
    schema["properties"] = {"extends": _EXTENDS, **schema["properties"]}
    # Of a file with a base only the merged job must be whole.
    required = schema.pop("required")
    schema["anyOf"] = [{"required": ["extends"]}, {"required": required}]
    for section in schema["properties"].values():
        if "required" in section:
            del section["required"]
    head = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "clicooper job",
        "description": "A job of clicooper-hpc: see docs/job-file.md.",
    }
    return {**head, **{key: value for key, value in schema.items() if key not in head}}


def job_schema_text() -> str:
    """Return the schema as the text of docs/job.schema.json."""
    return json.dumps(job_schema(), indent=1) + "\n"


def _plain(node: Any, known: dict[str, Any]) -> Any:
    """Return a schema of pydantic's without references, nulls and what draft 7 lacks."""
    if isinstance(node, list):
        return [_plain(one, known) for one in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        # What stands beside the reference, such as the meaning of this key, goes before.
        target = known[node["$ref"].rpartition("/")[2]]
        beside = {key: value for key, value in node.items() if key != "$ref"}
        return _plain({**target, **beside}, known)
    # TOML has no null: a key without a value is left out.
    found = {
        key: value for key, value in node.items() if not (key == "default" and _is_empty(value))
    }
    if "anyOf" in found:
        kinds = [one for one in found.pop("anyOf") if one.get("type") != "null"]
        found |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    if "prefixItems" in found:
        found |= {"items": found.pop("prefixItems"), "additionalItems": False}
    # Titles only repeat the key; "path" is no format of JSON Schema.
    found = {
        key: value
        for key, value in found.items()
        if not (key == "title" and isinstance(value, str))
        and not (key == "format" and value == "path")
    }
    return {key: _one_line(key, _plain(value, known)) for key, value in found.items()}


def _is_empty(value: Any) -> bool:
    # Of a table the defaults of its keys say the same, one by one.
    return value is None or isinstance(value, dict)


def _one_line(key: str, value: Any) -> Any:
    return " ".join(value.split()) if key == "description" and isinstance(value, str) else value


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(job_schema_text(), encoding="utf-8")
