"""Runs for tests of the report: one written through the public interface, with texts at will."""

from __future__ import annotations

from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path

import runstore_example as example

from clicooper_hpc.cli import main
from clicooper_hpc.runstore.index import (
    PipelineText,
    PrivacyText,
    RunResult,
    create_index,
)
from clicooper_hpc.runstore.index_end import complete_index, finish_index
from clicooper_hpc.runstore.run_folder import RunFolder, create_run_folder
from clicooper_hpc.runstore.tables.shard_writer import ShardWriter

__all__ = ["CARD", "TEXT", "PageText", "page_of", "read_page", "written_run"]

CARD: Mapping[str, str | float | int | bool] = {
    "private": True,
    "labels.classes": 10,
    "front.kind": "public",
    "rng_mode": "secure",
    "spec.guarantee.unit": "sample",
    "spec.guarantee.relation": "replace-one",
    "spec.guarantee.epsilon": 2.0,
    "spec.guarantee.delta": 1e-5,
    "spec.sample_epsilon": 2.0,
}
SCHEDULE = "1: F0 F1 B0 B1\n2: F0 B0 F1 B1"
TEXT = "guarantee        epsilon 2, delta 1e-05 per sample\nfront            public, glyphs\n"


def written_run(
    path: Path,
    *,
    card: Mapping[str, str | float | int | bool] | None = None,
    text: str = TEXT,
    accuracy: float | None = 0.875,
    results: Mapping[str, RunResult] | None = None,
) -> Path:
    """Write a run of one owner and two trainers, 8 steps; unfinished if ``accuracy`` is None."""
    folder: RunFolder = create_run_folder(path)
    privacy = PrivacyText({**CARD, **(card or {})}, text)
    tables = example.tables_by_rank()
    create_index(
        folder.index,
        example.header(),
        tables=tables,
        pipeline=PipelineText((0, 2), SCHEDULE, ("conv", "relu", "flatten", "out")),
        privacy=privacy,
    )
    for rank in range(3):
        with ShardWriter(
            folder.shard(rank), tables[rank], example.shard_attributes(rank)
        ) as writer:
            example.write_steps(writer, rank, range(8))
            if rank == 0:
                example.write_owner_events(writer)
    if accuracy is not None:
        found = {
            "clean_accuracy": RunResult(accuracy, "1", "Accuracy"),
            "clean_samples": RunResult(400, "1", "Samples"),
            **(results or {}),
        }
        finish_index(folder.index, results=found, privacy=privacy)
        complete_index(folder.index)
    return path


def page_of(*runs: Path, out: Path, code: int = 0) -> str:
    """Return the page that the command writes."""
    assert main(["report", *map(str, runs), "-o", str(out)]) == code
    return out.read_text(encoding="utf-8")


class PageText(HTMLParser):
    """Tags and texts of a page; every element that is opened must be closed."""

    _VOID = frozenset({"meta", "link", "br", "img", "path", "use", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self._VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        # <p> and <li> are closed in the template as well.
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        """All that a reader sees, blanks made single."""
        return " ".join(" ".join(self.texts).split())


def read_page(page: str) -> PageText:
    """Parse a page; all its elements are closed in order."""
    found = PageText()
    found.feed(page)
    found.close()
    assert found.open == []
    return found
