"""Each sample leaves once: every epoch, cache mode and repeated pass puts the same bytes out."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from replay import wire_messages
from start import SMALL, train

from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.training.batches import order_epoch_batches
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.tap import read_tap

SAMPLES, EPOCHS, MICRO_BATCHES = 60, 2, 3
PASS = Path(__file__).parent / "programs" / "owner_pass.py"
SEEDED = 'privacy.mode="reproducible-INSECURE"'


def rows_by_sample(run: Run) -> tuple[dict[int, set[bytes]], int]:
    """Return all bytes that left for each training sample, and the number of messages."""
    labels = next(
        np.frombuffer(payload, dtype=np.int32)
        for header, payload, _ in read_tap(run.folder.path / "wire" / "rank-000.wire")
        if header.kind is Kind.CONTROL and header.blob_bytes == 4 * SAMPLES
    )
    batches = [
        batch
        for epoch in range(EPOCHS)
        for batch in order_epoch_batches(
            seed=0, epoch=epoch, sub_labels=labels, batch_size=16, average_rows=1
        ).batches
    ]
    found: dict[int, set[bytes]] = {}
    messages = 0
    for step, micro_batch, peer, payload, shape in wire_messages(run, 0, Kind.RELEASE):
        assert peer == 1
        if step >= len(batches):
            continue  # validation
        messages += 1
        ids = batches[step].ids.reshape(-1)
        chunk = -(-len(ids) // MICRO_BATCHES)
        mine = ids[micro_batch * chunk : (micro_batch + 1) * chunk]
        assert shape[0] == len(mine)
        for sample, row in zip(mine, np.frombuffer(payload, "<f4").reshape(shape), strict=True):
            found.setdefault(int(sample), set()).add(row.tobytes())
    return found, messages


@pytest.mark.matrix
@pytest.mark.mpi
def test_epochs_and_cache_modes_put_the_same_bytes_on_the_wire(tmp_path: Path) -> None:
    seen = {}
    for cache in ("none", "memory", "disk"):
        run = train(tmp_path, 2, f"release.cache={cache}", SEEDED, name=cache)
        rows, messages = rows_by_sample(run)
        assert sorted(rows) == list(range(SAMPLES))
        assert all(len(bits) == 1 for bits in rows.values())
        seen[cache] = rows
        # Without a cache the owner sends in both epochs; with one only in the first.
        assert messages == (2 if cache == "none" else 1) * 4 * MICRO_BATCHES
        events = run.table("releases", rank=0)
        assert int(events["samples_new"].sum()) == SAMPLES + 20
        assert events["epsilon"].max() <= 8.0
    assert seen["none"] == seen["memory"] == seen["disk"]


@pytest.mark.matrix
@pytest.mark.mpi
def test_two_runs_never_share_their_noise(tmp_path: Path) -> None:
    first, _ = rows_by_sample(train(tmp_path, 2, name="a"))
    second, _ = rows_by_sample(train(tmp_path, 2, name="b"))
    assert all(first[sample].isdisjoint(second[sample]) for sample in first)


def owner_pass(folder: Path, out: Path, stop_after: int) -> int:
    return subprocess.run(
        [sys.executable, str(PASS), str(folder), str(out), str(stop_after)],
        check=False,
        timeout=120,
    ).returncode


def test_a_killed_and_repeated_owner_pass_sends_the_same_bits(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(SMALL)
    killed = owner_pass(tmp_path, tmp_path / "killed", 35)
    assert killed == -signal.SIGKILL
    assert owner_pass(tmp_path, tmp_path / "again", SAMPLES) == 0
    before, after = (tmp_path / "killed").read_bytes(), (tmp_path / "again").read_bytes()
    assert len(before) == 35 * 12 * 4
    assert len(after) == SAMPLES * 12 * 4
    assert after[: len(before)] == before
