"""A run and the privacy account of its samples: what it would cost, and the reservation of it.

A run reserves its whole cost once, after its files are made and before anything leaves. A
reservation is never given back: a run that was killed behind it may have sent something.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from clicooper_hpc.config.job import Job
from clicooper_hpc.data.dataset import DataSet
from clicooper_hpc.errors import EvidenceError, UsageError
from clicooper_hpc.owner.sample_charges import SampleCharges
from clicooper_hpc.privacy.account import (
    AccountEntry,
    AccountLimit,
    PrivacyAccount,
    parse_account,
    remaining_epsilon,
)
from clicooper_hpc.privacy.sensitivity import Relation
from clicooper_hpc.runstore.account_file import (
    account_file_exists,
    lock_account_file,
    read_account_file,
)

__all__ = ["JobAccount", "job_account", "read_account"]

_DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class JobAccount:
    """The account that a job names, and the fingerprint of the job's samples in it."""

    path: Path
    samples: str
    count: int
    limit: AccountLimit
    data: str
    mode: str

    def check_cost(self, charges: SampleCharges, run: str | None = None) -> None:
        """Raise if the account would refuse these charges; nothing is reserved or written.

        ``run``: the id of a run that is started again; what it has reserved covers it.

        Raises
        ------
        BudgetExceededError
            All runs together would cost a sample more than the limit.
        EvidenceError
            The account is damaged.
        """
        account = self.stored_account()
        if run is None or account.find_entry(run) is None:
            account.check_entry(self._entry(charges, "", ""))

    def reserve_cost(self, charges: SampleCharges, run: str, folder: str) -> list[str]:
        """Reserve the whole cost of the run with the id ``run``, unless it has; return what to log.

        Raises
        ------
        BudgetExceededError, EvidenceError
            As `check_cost`. Nothing was written.
        UsageError
            The run has reserved other costs.
        EnvironmentUnfitError
            The account cannot be written or locked.
        """
        entry = self._entry(charges, run, folder)
        with lock_account_file(self.path, deadline_s=_DEADLINE_S) as file:
            account = _parsed(file.content, self.path)
            before = account.find_entry(run)
            if before is not None:
                if not before.same_cost(entry):
                    raise UsageError(
                        f"the run {run} has reserved another cost there than it would have now",
                        where=str(self.path),
                        remedy="Bring back the job and the data that the run began with.",
                    )
                return [f"privacy account {self.path}: reserved by an earlier start of this run"]
            account.check_entry(entry)
            # All that may fail comes before the line: what is reserved is never given back.
            told = [f"privacy account {self.path}: {one}" for one in self.describe(account, entry)]
            file.append_line(account.encode_entry(entry), account.whole_bytes)
        if account.torn_bytes:
            told.append(
                f"privacy account {self.path}: took away {account.torn_bytes} bytes of a line "
                "whose writer was killed before it sent anything"
            )
        return told

    def stored_account(self) -> PrivacyAccount:
        """Return the account as it is; empty if there is no file yet."""
        if not account_file_exists(self.path):
            return PrivacyAccount()
        return read_account(self.path)

    def describe(self, account: PrivacyAccount, entry: AccountEntry | None = None) -> list[str]:
        """Return in words what the samples have paid, ``entry`` included, and what is left."""
        relation, delta = self.limit.relation, self.limit.delta
        entries = [*account.entries_of(self.samples), *([] if entry is None else [entry])]
        paid = [one.charge(relation) for one in entries]
        text = (
            f"{len(entries)} run{'' if len(entries) == 1 else 's'} on these samples, "
            f"{_both(entries, delta, relation)} of {self.limit.epsilon:.6g} at delta {delta:.3g}; "
            f"left for one release {remaining_epsilon(paid, self.limit):.6g} ({relation})"
        )
        others = len(account.entries) - len(account.entries_of(self.samples))
        if not others:
            return [text]
        return [
            text,
            f"{others} more of other samples, as their fingerprint says, are not added; were these "
            "the same people in another file, they would have to be",
        ]

    def describe_job(self, account: PrivacyAccount, charges: SampleCharges) -> list[str]:
        """Return in words what is left, and whether a new run of the job would be let in."""
        entry = self._entry(charges, "", "")
        relation, delta = self.limit.relation, self.limit.delta
        entries = [*account.entries_of(self.samples), entry]
        after = PrivacyAccount((*account.entries, entry)).spent(self.samples, delta, relation)
        verdict = "" if after <= self.limit.epsilon else ": a new run is REFUSED"
        return [
            *self.describe(account),
            f"with a run of this job {_both(entries, delta, relation)}{verdict}",
        ]

    def _entry(self, charges: SampleCharges, run: str, folder: str) -> AccountEntry:
        return AccountEntry(
            run=run,
            samples=self.samples,
            replace_one=charges.replace_one,
            absent=charges.absent,
            delta=charges.delta,
            limit=self.limit,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            folder=folder,
            data=self.data,
            mode=self.mode,
            count=self.count,
        )


def job_account(job: Job, data: DataSet) -> JobAccount | None:
    """Return the account that ``job`` names; None if it names none."""
    privacy = job.privacy
    if privacy.account is None or privacy.account_epsilon is None or privacy.account_delta is None:
        return None
    # All that is stored, whatever part of it this job takes: a part of the same file pays as one.
    whole = data.split("train")
    return JobAccount(
        path=privacy.account,
        samples=whole.fingerprint().hex,
        count=len(whole),
        limit=AccountLimit(privacy.account_epsilon, privacy.account_delta, privacy.relation),
        data=job.data.path,
        mode=job.release.mode,
    )


def read_account(path: Path) -> PrivacyAccount:
    """Read the account in the file ``path``.

    Raises
    ------
    EvidenceError
        It is damaged, or another file.
    """
    return _parsed(read_account_file(path), path)


def _parsed(content: bytes, path: Path) -> PrivacyAccount:
    try:
        return parse_account(content)
    except ValueError as error:
        raise EvidenceError(
            f"is damaged, or no privacy account ({error})",
            where=str(path),
            remedy="Bring back the file as the last run left it: what was paid is known from it "
            "alone.",
        ) from None


def _both(entries: Sequence[AccountEntry], delta: float, relation: Relation) -> str:
    """Return epsilon under ``relation``, and under the other one behind it."""
    everything = PrivacyAccount(tuple(replace(one, samples="") for one in entries))
    other: Relation = "zero-out" if relation == "replace-one" else "replace-one"
    here, there = (everything.spent("", delta, one) for one in (relation, other))
    name = "without the sample" if other == "zero-out" else other
    return f"epsilon {here:.6g} ({relation}; {name} {there:.6g})"
