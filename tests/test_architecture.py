"""docs/architecture.md: every path it names exists, and it names every file of the package.

A folder has a line that begins with its path below the package and a slash (behind `|`, `-`,
blanks or a backtick), as in "attacks/labels/". The names of its files, without ".py", follow in
that line or in those up to the next folder's. A file may also stand anywhere by its whole path.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "clicooper_hpc"
PAGE = ROOT / "docs" / "architecture.md"
FOLDER_LINE = re.compile(r"^[\s|*`-]*(?:clicooper_hpc/)?((?:\w+/)+)(?![\w.])")


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def folder_texts(page: str) -> dict[str, str]:
    """Return for each folder the page's lines on it."""
    texts: dict[str, str] = {}
    folder = ""
    for line in page.splitlines():
        found = FOLDER_LINE.match(line)
        if found:
            folder = found[1]
        texts[folder] = f"{texts.get(folder, '')}\n{line}"
    return texts


def test_every_path_it_names_exists(page: str) -> None:
    blocks = re.findall(r"^```\w*\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    prose = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    code = " ".join([*blocks, *re.findall(r"`([^`]+)`", prose)])
    words = re.findall(r"[\w.-]+(?:/[\w.-]+)*/?", code)
    named = {word for word in words if "/" in word or word.endswith((".py", ".md", ".toml"))}
    # RUN/private and the like are folders of a user.
    paths = {word for word in named if not word.split("/")[0].isupper()}
    assert paths
    places = (ROOT, PACKAGE, ROOT / "docs")
    missing = [name for name in sorted(paths) if not any((at / name).exists() for at in places)]
    assert missing == []


def test_it_names_every_folder_and_file_of_the_package(page: str) -> None:
    texts = folder_texts(page)
    missing = []
    for path in sorted(PACKAGE.rglob("*.py")):
        below = path.relative_to(PACKAGE)
        if path.name == "__init__.py":
            if len(below.parts) > 1 and f"{below.parent.as_posix()}/" not in texts:
                missing.append(f"{below.parent}/")
        elif below.as_posix() not in page:
            text = texts.get(f"{below.parent.as_posix()}/", "")
            if not re.search(rf"(?<![\w/]){path.stem}(?![\w/])", text):
                missing.append(below.as_posix())
    assert missing == []
