"""The account of a job on disk: reserved once, by one process at a time, whatever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clicooper_hpc.errors import (
    BudgetExceededError,
    ClicooperError,
    EnvironmentUnfitError,
    EvidenceError,
    UsageError,
)
from clicooper_hpc.owner.run_account import JobAccount, read_account
from clicooper_hpc.owner.sample_charges import SampleCharges
from clicooper_hpc.privacy.account import AccountLimit
from clicooper_hpc.privacy.accounting import Charge
from clicooper_hpc.privacy.gaussian_mechanism import gaussian_sigma

ROOT = Path(__file__).resolve().parents[2]
DELTA = 1e-5
MU = 2.0 / gaussian_sigma(8.0, DELTA, 2.0)
COST = SampleCharges(Charge(mu=MU), Charge(mu=MU / 2, relation="zero-out"), DELTA)
#: Two runs of epsilon 8 have 12.26 together, three 15.86.
LIMIT = AccountLimit(13.0, DELTA, "replace-one")

#: A process that reserves, and is killed where its second word says.
PROGRAM = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from test_run_account import COST, account_in
from clicooper_hpc.errors import BudgetExceededError

where, run = sys.argv[2], sys.argv[4]
whole = os.write
def torn(descriptor, data):
    if bytes(data[:9]) != b'{"format"':
        return whole(descriptor, data)
    whole(descriptor, data[:len(data) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
if where == "write":
    os.write = torn
if where == "together":
    print("ready", flush=True)
    sys.stdin.readline()
try:
    account_in(Path(sys.argv[1])).reserve_cost(COST, run, "/runs/" + run)
except BudgetExceededError:
    sys.exit(3)
if where == "before the send":
    os.kill(os.getpid(), signal.SIGKILL)
"""


def account_in(folder: Path, samples: str = "aa", limit: AccountLimit = LIMIT) -> JobAccount:
    return JobAccount(folder / "samples.account", samples, 9, limit, "digits", "rows")


def reserving(folder: Path, where: str, run: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), where, str(Path(__file__).parent), run],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
    )


def runs_in(folder: Path) -> list[str]:
    return [entry.run for entry in read_account(folder / "samples.account").entries]


def test_a_run_reserves_once_and_the_one_too_many_is_refused(tmp_path: Path) -> None:
    account = account_in(tmp_path)
    account.check_cost(COST)
    assert not account.path.exists()
    told = account.reserve_cost(COST, "a", "/runs/a")
    assert "1 run on these samples, epsilon 8 (replace-one; without the sample 3.54" in told[0]
    assert account.path.stat().st_mode & 0o777 == 0o600
    content = account.path.read_bytes()
    # Started again: neither asked nor paid a second time, however full the account is.
    assert "earlier start" in account.reserve_cost(COST, "a", "/moved/a")[0]
    assert account.path.read_bytes() == content
    account.reserve_cost(COST, "b", "/runs/b")
    assert account.path.read_bytes().startswith(content)
    full = account.path.read_bytes()
    for attempt in (account.check_cost, lambda cost: account.reserve_cost(cost, "c", "/runs/c")):
        with pytest.raises(BudgetExceededError, match="in 3 runs, limit 13"):
            attempt(COST)
    account.check_cost(COST, run="b")
    account.reserve_cost(COST, "b", "/runs/b")
    assert account.path.read_bytes() == full
    other = account_in(tmp_path, "bb")
    assert "2 more of other samples" in other.reserve_cost(COST, "d", "/runs/d")[1]
    assert "REFUSED" in account.describe_job(account.stored_account(), COST)[-1]


def test_a_run_started_again_with_another_cost_is_refused(tmp_path: Path) -> None:
    account = account_in(tmp_path)
    account.reserve_cost(COST, "a", "/runs/a")
    less = SampleCharges(Charge(mu=MU / 2), COST.absent, DELTA)
    with pytest.raises(UsageError, match="reserved another cost"):
        account.reserve_cost(less, "a", "/runs/a")
    with pytest.raises(UsageError, match="reserved another cost"):
        account_in(tmp_path, "bb").reserve_cost(COST, "a", "/runs/a")


def test_a_writer_killed_in_the_middle_of_the_write_loses_nothing(tmp_path: Path) -> None:
    account = account_in(tmp_path)
    account.reserve_cost(COST, "a", "/runs/a")
    before = account.path.read_bytes()
    killed = reserving(tmp_path, "write", "b")
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    torn = account.path.read_bytes()
    assert torn.startswith(before)
    assert len(torn) > len(before) + 100
    assert runs_in(tmp_path) == ["a"]
    # Its lock went with it, and nothing had left for it: the next takes its place, and says so.
    assert "took away" in account.reserve_cost(COST, "c", "/runs/c")[-1]
    assert runs_in(tmp_path) == ["a", "c"]


def test_a_writer_killed_before_the_send_has_paid_and_pays_no_more(tmp_path: Path) -> None:
    killed = reserving(tmp_path, "before the send", "a")
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert runs_in(tmp_path) == ["a"]
    account_in(tmp_path).reserve_cost(COST, "a", "/runs/a")
    assert runs_in(tmp_path) == ["a"]


def test_many_at_once_serialise(tmp_path: Path) -> None:
    """Two fit; whoever is third sees both, whichever of the processes that is."""
    starts = [reserving(tmp_path, "together", f"run-{number}") for number in range(4)]
    for one in starts:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in starts:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    codes = []
    for one in starts:
        one.communicate(timeout=60)
        codes.append(one.returncode)
    assert sorted(codes) == [0, 0, 3, 3]
    assert len(runs_in(tmp_path)) == 2


def test_a_lock_that_hangs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clicooper_hpc.owner import run_account
    from clicooper_hpc.runstore.account_file import lock_account_file

    monkeypatch.setattr(run_account, "_DEADLINE_S", 0.1)
    account = account_in(tmp_path)
    with (
        lock_account_file(account.path, deadline_s=1.0),
        pytest.raises(EnvironmentUnfitError, match="another process holds the privacy account"),
    ):
        account.reserve_cost(COST, "a", "/runs/a")
    account.reserve_cost(COST, "a", "/runs/a")


def test_a_file_put_in_its_place_while_waiting_is_the_one_that_counts(tmp_path: Path) -> None:
    from clicooper_hpc.runstore.account_file import lock_account_file

    account = account_in(tmp_path)
    with lock_account_file(account.path, deadline_s=1.0):
        waiting = reserving(tmp_path, "together", "a")
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "ready\n"
        assert waiting.stdin is not None
        waiting.stdin.write("\n")
        waiting.stdin.flush()
        time.sleep(0.5)
        account.path.rename(tmp_path / "old")
    waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    assert (tmp_path / "old").read_bytes() == b""
    assert runs_in(tmp_path) == ["a"]


def refused(account: JobAccount) -> ClicooperError:
    with pytest.raises(ClicooperError) as caught:
        account.reserve_cost(COST, "a", "/runs/a")
    assert str(account.path) in caught.value.line()
    return caught.value


def test_what_fails_while_it_is_put_in_words_reserves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = account_in(tmp_path)
    account.reserve_cost(COST, "a", "/runs/a")

    def fails(*_: object) -> list[str]:
        raise ArithmeticError

    with monkeypatch.context() as patch:
        patch.setattr(JobAccount, "describe", fails)
        with pytest.raises(ArithmeticError):
            account_in(tmp_path, "bb").reserve_cost(COST, "b", "/runs/b")
    assert runs_in(tmp_path) == ["a"]


def test_plan_refuses_a_place_where_no_account_can_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there can be no privacy account"):
        account_in(tmp_path / "missing").stored_account()
    assert account_in(tmp_path).stored_account().entries == ()


def test_a_place_that_cannot_hold_an_account_is_named(tmp_path: Path) -> None:
    assert refused(account_in(tmp_path / "missing")).exit_code == 2
    (tmp_path / "file").touch()
    assert refused(account_in(tmp_path / "file")).exit_code == 2
    (tmp_path / "folder" / "samples.account").mkdir(parents=True)
    assert refused(account_in(tmp_path / "folder")).exit_code == 2
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "samples.account").symlink_to(tmp_path / "file")
    assert refused(account_in(tmp_path / "link")).exit_code == 2
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "samples.account", 0o600)
    assert refused(account_in(tmp_path / "pipe")).exit_code == 2


def test_a_file_open_to_others_a_damaged_or_a_foreign_one_is_refused(tmp_path: Path) -> None:
    account = account_in(tmp_path)
    account.reserve_cost(COST, "a", "/runs/a")
    account.path.chmod(0o640)
    assert "chmod 600" in refused(account).line()
    with pytest.raises(EnvironmentUnfitError, match="mode 640"):
        account.check_cost(COST)
    account.path.chmod(0o600)
    for content in (b"my notes", account.path.read_bytes().replace(b'"digits"', b'"pixels"')):
        account.path.write_bytes(content)
        assert isinstance(refused(account), EvidenceError)
        with pytest.raises(EvidenceError):
            account.check_cost(COST)
        # Whatever it is, it is left as it was.
        assert account.path.read_bytes() == content
