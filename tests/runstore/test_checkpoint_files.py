"""Checkpoints on disk: whole or not at all, and never fewer than were promised."""

from __future__ import annotations

from pathlib import Path

import pytest

from clicooper_hpc.errors import EnvironmentUnfitError, RunFolderError
from clicooper_hpc.runstore.checkpoints import (
    commit_checkpoint,
    drop_newer_checkpoints,
    find_checkpoints,
    keep_stage_checkpoint,
    rank_checkpoint_name,
    read_checkpoint_file,
    segment_checkpoint_name,
    stage_checkpoint_path,
    store_checkpoint_file,
)


def save(run: Path, step: int, keep: int = 2) -> None:
    files = {
        name: store_checkpoint_file(run, step, name, f"{name} {step}".encode())
        for name in (rank_checkpoint_name(0), segment_checkpoint_name(1))
    }
    commit_checkpoint(run, run_id="a", step=step, files=files, keep=keep)


def steps(run: Path) -> list[int]:
    return [one.step for one in find_checkpoints(run)]


def test_the_newest_stay_and_half_ones_go(tmp_path: Path) -> None:
    save(tmp_path, 2)
    store_checkpoint_file(tmp_path, 3, segment_checkpoint_name(1), b"never finished")
    save(tmp_path, 5)
    assert steps(tmp_path) == [5, 2]
    save(tmp_path, 8)
    assert steps(tmp_path) == [8, 5]
    assert sorted(one.name for one in (tmp_path / "checkpoints").iterdir()) == [
        "step-00000005",
        "step-00000008",
    ]
    found = find_checkpoints(tmp_path)[0]
    assert read_checkpoint_file(found, segment_checkpoint_name(1)) == b"segment-001.safetensors 8"


def test_an_older_checkpoint_goes_only_when_the_next_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 2, keep=1)
    files = {
        segment_checkpoint_name(1): store_checkpoint_file(
            tmp_path, 5, segment_checkpoint_name(1), b"new"
        )
    }

    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(EnvironmentUnfitError, match="No space left"):
        commit_checkpoint(tmp_path, run_id="a", step=5, files=files, keep=1)
    monkeypatch.undo()
    assert steps(tmp_path) == [2]
    read_checkpoint_file(find_checkpoints(tmp_path)[0], segment_checkpoint_name(1))


@pytest.mark.parametrize("damage", ["a bit", "cut", "gone"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    save(tmp_path, 2)
    found = find_checkpoints(tmp_path)[0]
    path = found.folder / segment_checkpoint_name(1)
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if damage == "cut" else b"X" + content[1:])
    with pytest.raises(RunFolderError, match="damaged") as caught:
        read_checkpoint_file(found, segment_checkpoint_name(1))
    assert caught.value.where == str(path)
    assert read_checkpoint_file(found, rank_checkpoint_name(0))


@pytest.mark.parametrize("damage", [b"", b"{}", b"not json", None])
def test_a_changed_index_makes_it_none(tmp_path: Path, damage: bytes | None) -> None:
    save(tmp_path, 2)
    index = tmp_path / "checkpoints" / "step-00000002" / "index.json"
    text = index.read_bytes()
    index.write_bytes(
        text.replace(b'"run_id": "a"', b'"run_id": "b"') if damage is None else damage
    )
    assert steps(tmp_path) == []


def test_newer_ones_are_let_go_of_and_may_be_written_again(tmp_path: Path) -> None:
    for step in (2, 5, 8):
        save(tmp_path, step, keep=3)
    drop_newer_checkpoints(tmp_path, 2)
    assert steps(tmp_path) == [2]
    save(tmp_path, 5, keep=3)
    assert steps(tmp_path) == [5, 2]


def test_the_state_for_audits_takes_no_second_copy_and_outlives_the_checkpoint(
    tmp_path: Path,
) -> None:
    store_checkpoint_file(tmp_path, 5, segment_checkpoint_name(1), b"state")
    keep_stage_checkpoint(tmp_path, stage=0, segment=1, step=5, content=b"state")
    kept = stage_checkpoint_path(tmp_path, 0, 1)
    stored = tmp_path / "checkpoints" / "step-00000005" / segment_checkpoint_name(1)
    assert kept.stat().st_ino == stored.stat().st_ino
    stored.unlink()
    assert kept.read_bytes() == b"state"
    keep_stage_checkpoint(tmp_path, stage=1, segment=1, step=9, content=b"other")
    assert stage_checkpoint_path(tmp_path, 1, 1).read_bytes() == b"other"
