"""Segments too small for a mark: one line for all of them, said by the owner."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from start import SMALL
from torch import nn

from clicooper_hpc.config.load_job import load_job
from clicooper_hpc.run.signers import warn_of_unmarked_segments

SMALL_LAYER, LARGE_LAYER = nn.Linear(8, 8), nn.Linear(512, 512)


def network(*layers: nn.Module) -> Any:
    layout = SimpleNamespace(layers_of=lambda model, segment: model[segment])
    return SimpleNamespace(model=layers, layout=layout)


@pytest.mark.parametrize(
    ("marks", "layers", "lines"),
    [
        ("auto", (SMALL_LAYER, LARGE_LAYER, SMALL_LAYER), ["without a mark: segment 1, 3 ("]),
        ("auto", (LARGE_LAYER,), []),
        ("off", (SMALL_LAYER,), []),
        ("required", (SMALL_LAYER,), []),
    ],
)
def test_segments_without_a_mark_are_named_in_one_line(
    marks: str,
    layers: tuple[nn.Module, ...],
    lines: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "job.toml").write_text(SMALL)
    job = load_job(tmp_path / "job.toml", [f'provenance.marks="{marks}"'])
    said: list[str] = []
    # Not caplog: the package's logger keeps its lines to itself once a run has set it up.
    monkeypatch.setattr(
        "clicooper_hpc.run.signers._log",
        SimpleNamespace(warning=lambda text, *values: said.append(text % values)),
    )
    warn_of_unmarked_segments(job, network(*layers), len(layers))
    assert [line[:30] for line in said] == lines
