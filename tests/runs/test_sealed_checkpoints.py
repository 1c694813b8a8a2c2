"""A rank goes on only from what it wrote itself, and only from what it can go on from."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from restarts import RESTART_JOB, check_same, resume, struck
from start import train
from torch import Tensor, nn

from clicooper_hpc.errors import ClicooperError, EvidenceError, RunFolderError
from clicooper_hpc.provenance.identity import Identity
from clicooper_hpc.run.checkpoint_check import WantedCheckpoint, check_checkpoint
from clicooper_hpc.runstore.checkpoints import (
    FileDigest,
    RunCheckpoint,
    checkpoint_seal_text,
    commit_checkpoint,
    find_checkpoints,
    rank_checkpoint_name,
    segment_checkpoint_name,
    store_checkpoint_file,
)
from clicooper_hpc.runstore.reader import open_run
from clicooper_hpc.runstore.safetensors_files import pack_safetensors, unpack_safetensors
from clicooper_hpc.training.message_digests import CHANNELS, ChannelRecord
from clicooper_hpc.training.stage_progress import StageProgress

RUN_ID, STEP, RANK = "a" * 32, 5, 1
IDENTITIES = [Identity.generate() for _ in range(2)]
LAYERS = nn.Sequential(nn.Linear(3, 4))


def state_of(layers: nn.Module) -> dict[str, Tensor]:
    weights = {f"weights/{name}": value for name, value in layers.state_dict().items()}
    moment = {"training/optimizer/0000/momentum_buffer": torch.zeros(4, 3)}
    return {**weights, **moment}


def saved(
    run: Path,
    state: dict[str, Tensor] | None = None,
    *,
    progress: bytes | None = None,
    signers: Sequence[Identity] = IDENTITIES,
    run_id: str = RUN_ID,
    step: int = STEP,
) -> RunCheckpoint:
    """Write a checkpoint of two ranks, as they would, and return it as a restart finds it."""
    done = StageProgress(3, {channel: ChannelRecord() for channel in CHANNELS}, "now", "", "")
    contents = {
        rank_checkpoint_name(0): pack_safetensors(*done.pack_progress()),
        rank_checkpoint_name(1): progress or pack_safetensors(*done.pack_progress()),
        segment_checkpoint_name(1): pack_safetensors(state or state_of(LAYERS), {}),
    }
    files = {
        name: store_checkpoint_file(run, step, name, content) for name, content in contents.items()
    }
    text = checkpoint_seal_text(run_id, step, files)
    seals = [identity.sign(text) for identity in signers]
    commit_checkpoint(run, run_id=run_id, step=step, files=files, seals=seals, keep=9)
    return next(one for one in find_checkpoints(run) if one.step == step)


def wanted(layers: nn.Module = LAYERS) -> WantedCheckpoint:
    return WantedCheckpoint(RANK, RUN_ID, IDENTITIES[RANK].public, layers)


def edited(run: Path, found: RunCheckpoint, content: bytes) -> RunCheckpoint:
    """Put another state in, with a list of files that fits: all that takes no key."""
    name = segment_checkpoint_name(1)
    files = {**found.files, name: store_checkpoint_file(run, found.step, name, content)}
    commit_checkpoint(run, run_id=RUN_ID, step=found.step, files=files, seals=found.seals, keep=9)
    return find_checkpoints(run)[0]


def test_a_rank_takes_back_what_it_sealed(tmp_path: Path) -> None:
    check_checkpoint(saved(tmp_path), wanted())


Change = Callable[[Path, RunCheckpoint], RunCheckpoint]
OTHER = pack_safetensors({**state_of(LAYERS), "weights/0.bias": torch.ones(4)}, {})
CHANGES: dict[str, Change] = {
    "edited": lambda run, found: edited(run, found, OTHER),
    "no seals": lambda run, found: replace(found, seals=()),
    "only the owner's": lambda run, found: replace(found, seals=found.seals[:1]),
    "exchanged": lambda run, found: replace(found, seals=found.seals[::-1]),
    "of another step": lambda run, found: replace(found, seals=saved(run, step=9).seals),
    "of another run": lambda run, found: replace(found, seals=saved(run, run_id="b" * 32).seals),
    "by another key": lambda run, found: replace(
        found, seals=saved(run, signers=[Identity.generate()] * 2).seals
    ),
    "another rank's file exchanged": lambda run, found: replace(
        found, files={**found.files, rank_checkpoint_name(0): FileDigest(1, "0" * 64)}
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_a_rank_did_not_seal_is_refused(tmp_path: Path, change: Change) -> None:
    found = change(tmp_path, saved(tmp_path))
    with pytest.raises(EvidenceError, match="not the one that rank 1 signed") as caught:
        check_checkpoint(found, wanted())
    assert caught.value.where == str(found.index)


def bad(name: str, value: Tensor) -> dict[str, Tensor]:
    return {**state_of(LAYERS), name: value}


STATES = {
    "nan": (bad("weights/0.bias", torch.full((4,), torch.nan)), "weights/0.bias holds NaN"),
    "shape": (bad("weights/0.bias", torch.ones(5)), "weights/0.bias does not fit"),
    "dtype": (bad("weights/0.bias", torch.ones(4).double()), "weights/0.bias does not fit"),
    "unknown": (bad("weights/1.bias", torch.ones(4)), "weights/1.bias does not fit"),
    "moment": (bad("training/optimizer/0000/momentum_buffer", torch.ones(2)), "momentum_buffer"),
}


@pytest.mark.parametrize(("state", "says"), STATES.values(), ids=STATES)
def test_a_state_that_does_not_serve_is_refused_and_not_begun_with(
    tmp_path: Path, state: dict[str, Tensor], says: str
) -> None:
    with pytest.raises(ClicooperError, match=says):
        check_checkpoint(saved(tmp_path, state), wanted())


def test_progress_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    progress = pack_safetensors({"odd": torch.ones(1)}, {})
    with pytest.raises(RunFolderError, match="does not hold the progress") as caught:
        check_checkpoint(saved(tmp_path, progress=progress), wanted())
    assert "written by rank 1" in str(caught.value)


def test_a_rotten_file_is_named_with_its_writer(tmp_path: Path) -> None:
    found = saved(tmp_path)
    (found.folder / segment_checkpoint_name(1)).write_bytes(b"rotten")
    with pytest.raises(RunFolderError, match="rank 1 wrote it"):
        check_checkpoint(found, wanted())


@pytest.mark.matrix
@pytest.mark.mpi
def test_an_edited_checkpoint_convicts_nobody_and_one_that_does_not_fit_is_passed_over(
    tmp_path: Path,
) -> None:
    """Somebody without a key edits the newest; the one before was sealed with a wrong shape."""
    (tmp_path / "whole").mkdir()
    whole = train(tmp_path / "whole", 3, text=RESTART_JOB)
    (tmp_path / "job.toml").write_text(RESTART_JOB)
    run = tmp_path / "run"
    struck(tmp_path, 3, 1, "forward", 20)
    newest, older = find_checkpoints(run)
    for checkpoint, grows in ((newest, False), (older, True)):
        path = checkpoint.folder / segment_checkpoint_name(2)
        state = unpack_safetensors(path.read_bytes(), where="here")
        name = next(one for one in sorted(state) if one.endswith(".weight"))
        state[name] = torch.cat([state[name]] * 2) if grows else state[name] * 1.5
        path.unlink()  # the state kept for audits may be the same file
        digest = store_checkpoint_file(run, checkpoint.step, path.name, pack_safetensors(state, {}))
        files = {**checkpoint.files, path.name: digest}
        seals: Sequence[bytes] = checkpoint.seals
        if grows:
            text = checkpoint_seal_text(checkpoint.run_id, checkpoint.step, files)
            keys = [run / "private" / f"rank-{rank:03d}" / "identity.pem" for rank in range(3)]
            seals = [Identity.from_pem(key.read_bytes()).sign(text) for key in keys]
        content = json.loads(checkpoint.index.read_text())
        commit_checkpoint(
            run,
            run_id=content["run_id"],
            step=checkpoint.step,
            files=files,
            seals=seals,
            keep=9,
        )
    done = resume(tmp_path, 3)
    assert done.returncode == 0, done.stderr
    # Every rank signed the list: the first of them speaks.
    assert f"{newest.index}: the list of files is not the one that rank 0 signed" in done.stderr
    assert f"tensor {name} does not fit the segment" in done.stderr
    assert "written by rank 2" in done.stderr
    check_same(open_run(run), whole)
