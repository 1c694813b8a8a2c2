"""Texts of a run as the page may show them: one printable line without paths of the owner."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.printable import printable_text
from clicooper_hpc.runstore.reader import Run

__all__ = ["PublicText"]

# Where paths begin: at no address of the web, in the middle of no word; maybe on a host, as scp
# and URLs of files have it.
_BEGIN = r"(?<![\w./:<~@+-])(?!https?:)"
_HOST = r"(?:[\w.+@-]+:)?"
_HOME_OR_UP = r"(?:~[\w.-]*/+|(?:\.{1,2}/+)+)"
#: Folders before a name in any other path that looks like one: the name stays.
_FOLDERS = re.compile(
    rf"{_BEGIN}(?:{_HOST}/+(?:[^\s/'\",;:]+/+)+|{_HOST}{_HOME_OR_UP}(?:[^\s/'\",;:]+/+)*)(?=[^\s/])"
)
#: The same in quotes: there are blanks in some.
_QUOTED = re.compile(
    rf"(?P<quote>['\"])(?!https?:)(?:{_HOST}/|{_HOST}{_HOME_OR_UP})(?:[^'\"]*/)?"
    r"(?=[^'\"/]+/?(?P=quote))"
)


@dataclass(frozen=True, slots=True)
class PublicText:
    """Shortens paths in texts of one run to their last part.

    ``names``: name to show by path, longest path first. A path is known from the job or from the
    folder itself, blanks and all; of other paths the folders are cut by their look, as far as they
    have one: a relative path looks like any two words, and one with blanks has quotes or no end.
    """

    names: Mapping[str, str]

    @classmethod
    def of_folder(cls, folder: Path) -> Self:
        """Return what shortens the paths of ``folder``."""
        return cls(_longest_first(_folder_paths(folder)))

    @classmethod
    def of_run(cls, run: Run) -> Self:
        """Return what shortens the paths of the folder and of the job of ``run``."""
        try:
            named = [text for text in _job_texts(run.job) if "/" in text.strip("/")]
        # No job: then no paths of it either. Deeper than Python goes: cut by their look alone.
        except (RunFolderError, RecursionError):
            named = []
        return cls(_longest_first([*_folder_paths(run.folder.path), *named]))

    def line(self, text: object) -> str:
        """Return ``text`` as one printable line without folders."""
        shown = str(text)
        for path, name in self.names.items():
            shown = shown.replace(path, name)
        return printable_text(_FOLDERS.sub("", _QUOTED.sub(r"\g<quote>", shown)))


def _folder_paths(folder: Path) -> list[str]:
    return [str(folder), os.path.abspath(folder), os.path.realpath(folder)]


def _longest_first(paths: list[str]) -> dict[str, str]:
    known = {path: os.path.basename(path.rstrip("/")) for path in paths if path.strip("./")}
    return dict(sorted(known.items(), key=lambda item: (-len(item[0]), item[0])))


def _job_texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _job_texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _job_texts(one)
