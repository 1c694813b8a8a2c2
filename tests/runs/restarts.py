"""Runs that are restarted, compared with one that was not interrupted."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from mpirun import mpirun
from start import SMALL

from clicooper_hpc.errors import ExitCode
from clicooper_hpc.provenance.envelope import parse_envelope
from clicooper_hpc.runstore.checkpoints import find_checkpoints, read_checkpoint_file
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.verification.verification_report import verification_report

__all__ = [
    "RESTART_JOB",
    "check_same",
    "check_verified",
    "plain_verdict",
    "resume",
    "statements",
    "struck",
]

PROGRAM = Path(__file__).with_name("programs") / "killed.py"
#: Three stages, two epochs with an evaluation after each; the noise follows from a seed.
RESTART_JOB = (
    SMALL.replace("epsilon = 8.0", 'epsilon = 8.0\nmode = "reproducible-INSECURE"')
    .replace("epochs = 2", "epochs = 2\nevaluate_every_epochs = 1")
    .replace("record_wire = true", "")
    + "[provenance]\nstages = 3\n"
)


def struck(
    folder: Path,
    ranks: int,
    rank: int,
    moment: str,
    count: int,
    *overrides: str,
    what: str = "SIGKILL",
    again: bool = False,
    name: str = "run",
    frozen: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Start the job in ``folder`` into ``folder/name``; see programs/killed.py and frozen.py."""
    if again:
        verb = ["resume", str(folder / name)]
    else:
        verb = ["run", str(folder / "job.toml"), "-o", str(folder / name)]
        verb += [part for one in overrides for part in ("--set", one)]
    words = [str(PROGRAM), str(rank), moment, str(count), what, "--", *verb, "-q"]
    return mpirun(ranks, words, cwd=folder, env={"FROZEN": "1"} if frozen else {})


def resume(folder: Path, ranks: int, *overrides: str) -> subprocess.CompletedProcess[str]:
    """Restart the run in ``folder/run``."""
    words = ["-m", "clicooper_hpc", "resume", str(folder / "run"), "-q"]
    words += [part for one in overrides for part in ("--set", one)]
    return mpirun(ranks, words, cwd=folder)


def statements(run: Run) -> list[tuple[str, dict[str, object]]]:
    """Return kind and predicate of every entry of the ledger."""
    ledger = run.table("ledger", 0)
    return [
        (str(kind), json.loads(parse_envelope(str(envelope).encode()).payload)["predicate"])
        for kind, envelope in zip(ledger["kind"], ledger["envelope"], strict=True)
    ]


def plain_verdict(run: Run) -> tuple[str, ExitCode]:
    """Return what `verify` says of a run, without keys given, and its exit code."""
    return verification_report(
        run.folder.path,
        owner_key=None,
        trainer_keys=[],
        mark_keys=[],
        segment_file=None,
        as_json=False,
    )


def check_verified(run: Run) -> None:
    """Hold that `verify` finds nothing."""
    text, code = plain_verdict(run)
    assert code == 0, text


def check_same(run: Run, whole: Run) -> None:
    """Compare a run that was killed and resumed with one that was not."""
    assert run.status == "complete"
    segments = sorted(one.name for one in whole.folder.delivery.iterdir())
    assert sorted(one.name for one in run.folder.delivery.iterdir()) == segments
    for name in segments:
        ours, theirs = (one.folder.delivery / name for one in (run, whole))
        assert ours.read_bytes() == theirs.read_bytes(), name
    check_verified(run)
    kinds = [kind for kind, _ in statements(run)]
    assert kinds == [kind for kind, _ in statements(whole)]
    for result in ("clean_accuracy", "released_accuracy"):
        assert run.results[result] == whole.results[result]
    for rank in run.ranks:
        for table in ("steps", "training", "messages"):
            if table in run.table_names(rank):
                rows = [list(one.table(table, rank).index) for one in (run, whole)]
                assert rows[0] == rows[1], (table, rank)
    digests = [list(one.table("messages", whole.ranks[-1])["digest"]) for one in (run, whole)]
    assert digests[0] == digests[1]
    charged = [json.loads((one.folder.private / "ledger.json").read_text()) for one in (run, whole)]
    assert charged[0] == charged[1]
    for events in (one.table("releases", 0) for one in (run, whole)):
        total = events.groupby("split")["samples_new"].sum()
        assert dict(total) == {0: 60, 1: 20}
    clean = [list(one.table("evaluation", 0)["clean_accuracy"]) for one in (run, whole)]
    assert clean[0] == clean[1]
    for checkpoint in find_checkpoints(run.folder.path):
        for name in checkpoint.files:
            read_checkpoint_file(checkpoint, name)
