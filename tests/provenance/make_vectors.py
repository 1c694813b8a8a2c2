"""Write docs/provenance-vectors.json, and the bytes shown in docs/provenance.md.

Run it after a format has changed on purpose; the tests fail until then. Nothing here is random.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from vector_ledger import ledger
from vector_parts import parts

__all__ = ["FILE", "PAGE", "build", "fill", "shown", "to_text"]

DOCS: Final = Path(__file__).parents[2] / "docs"
FILE: Final = DOCS / "provenance-vectors.json"
PAGE: Final = DOCS / "provenance.md"

_ABOUT: Final = (
    "Test vectors of docs/provenance.md, written by tests/provenance/make_vectors.py. "
    "The secret keys are those of RFC 8032: never use them."
)
_WIDTH: Final = 100
_BLOCK: Final = re.compile(r"<!-- vector: (\S+) -->\n```\n.*?\n```\n", re.DOTALL)


def build() -> dict[str, Any]:
    """Return all vectors."""
    made = parts()
    return {"about": _ABOUT, **made, **ledger(made)}


def to_text(vectors: Mapping[str, Any]) -> str:
    """Return the file's content."""
    return json.dumps(vectors, indent=1, sort_keys=True, ensure_ascii=True) + "\n"


def shown(vectors: Mapping[str, Any], path: str) -> str:
    """Return the text at a path such as ``ledger/entries/1/pae``, in lines as the page has it.

    Line breaks are only for reading, unless the text has its own.
    """
    value: Any = vectors
    for step in path.split("/"):
        value = value[int(step)] if isinstance(value, list) else value[step]
    text = str(value)
    if "\n" in text:
        return text.removesuffix("\n")
    lines = []
    while len(text) > _WIDTH:
        # Neither side of a break may be a space: editors drop those.
        cut = next(at for at in range(_WIDTH, 0, -1) if " " not in text[at - 1 : at + 1])
        lines.append(text[:cut])
        text = text[cut:]
    return "\n".join([*lines, text])


def fill(page: str, vectors: Mapping[str, Any]) -> str:
    """Return the page with every block behind ``<!-- vector: PATH -->`` brought up to date."""

    def block(match: re.Match[str]) -> str:
        return f"<!-- vector: {match[1]} -->\n```\n{shown(vectors, match[1])}\n```\n"

    return _BLOCK.sub(block, page)


def main() -> None:
    """Write both files."""
    vectors = build()
    FILE.write_text(to_text(vectors), encoding="ascii")
    if PAGE.is_file():
        PAGE.write_text(fill(PAGE.read_text(encoding="utf-8"), vectors), encoding="utf-8")


if __name__ == "__main__":
    main()
