"""The privacy account: what the same samples have paid in all runs together.

One line a run in a file that only grows; each line holds the digest of the one before, so a line
that was changed, taken out or put in elsewhere shows. What follows the last line break was being
written when its writer was killed: nothing had left for it, so it does not count.

Composition: Gaussian parts of all runs compose as one of mu = sqrt(sum mu_i^2), everything else is
added (`clicooper_hpc.privacy.accounting.compose_charges`). Each by itself holds for runs chosen in
the light of earlier ones too, as long as each is refused that would exceed a limit fixed beforehand
(Smith and Thakurta 2022 and Koskela, Tobaben and Honkela 2022 for Gaussian parts; Rogers, Roth,
Ullman and Vadhan 2016 for the rest); of mixtures see docs/privacy.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from clicooper_hpc.digests import Digest, digest_bytes
from clicooper_hpc.errors import BudgetExceededError
from clicooper_hpc.privacy.accounting import Charge, compose_charges
from clicooper_hpc.privacy.gaussian_mechanism import gaussian_epsilon, gaussian_sigma
from clicooper_hpc.privacy.sensitivity import Relation

__all__ = ["AccountEntry", "AccountLimit", "PrivacyAccount", "parse_account"]

_FORMAT: Final = "clicooper privacy account 1"
_BEGIN: Final = f'{{"format":"{_FORMAT}",'.encode("ascii")
_TAG: Final = "clicooper/v1/privacy-account"
_FIRST: Final = digest_bytes(_TAG, b"")
#: What a line that was never written so can raise.
_UNREADABLE: Final = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True)
class AccountLimit:
    """The most one sample may pay in all runs together."""

    epsilon: float
    delta: float
    relation: Relation


@dataclass(frozen=True, slots=True)
class AccountEntry:
    """What one run has reserved, before anything of it left.

    Parameters
    ----------
    run
        Its id; a restart has the same and pays nothing more.
    samples
        Fingerprint of the training samples as stored, in hex: entries with the same one add up.
    replace_one, absent
        Cost to a whole sample against another one in its place, and against none (zero-out or
        add-remove; a charge of relation ``"zero-out"``).
    delta
        At which the run states its own epsilon.
    limit
        Under which it was let in.
    time, folder, data, mode, count
        For people: UTC, run folder, data set, release mode, number of samples.
    """

    run: str
    samples: str
    replace_one: Charge
    absent: Charge
    delta: float
    limit: AccountLimit
    time: str
    folder: str
    data: str
    mode: str
    count: int

    def charge(self, relation: Relation) -> Charge:
        """Return the cost under ``relation``."""
        return self.replace_one if relation == "replace-one" else self.absent

    def same_cost(self, other: AccountEntry) -> bool:
        """Whether both are the same release of the same samples."""
        mine, theirs = (
            (one.run, one.samples, one.replace_one, one.absent) for one in (self, other)
        )
        return mine == theirs


@dataclass(frozen=True, slots=True)
class PrivacyAccount:
    """All entries of an account file, oldest first.

    Attributes
    ----------
    entries
        One a run.
    head
        Digest of the last line, which the next one names.
    whole_bytes, torn_bytes
        Length of the lines, and of what a killed writer left behind them.
    ends_line
        False if the last line lacks only its line break.
    """

    entries: tuple[AccountEntry, ...] = ()
    head: Digest = _FIRST
    whole_bytes: int = 0
    torn_bytes: int = 0
    ends_line: bool = True
    _by_run: Mapping[str, AccountEntry] = field(default_factory=dict, repr=False)

    def find_entry(self, run: str) -> AccountEntry | None:
        """Return what the run with this id has reserved."""
        return self._by_run.get(run)

    def entries_of(self, samples: str) -> list[AccountEntry]:
        """Return the entries of runs on the samples with this fingerprint."""
        return [entry for entry in self.entries if entry.samples == samples]

    def spent(self, samples: str, delta: float, relation: Relation) -> float:
        """Return the epsilon that a sample has paid in all runs, at the total ``delta``."""
        return _total(
            (entry.charge(relation) for entry in self.entries_of(samples)), delta, relation
        )

    def check_entry(self, entry: AccountEntry) -> None:
        """Raise unless ``entry`` keeps its limit.

        Raises
        ------
        BudgetExceededError
            All runs together would cost a sample more.
        """
        limit, relation = entry.limit, entry.limit.relation
        before = self.entries_of(entry.samples)
        charges = [one.charge(relation) for one in before]
        after = _total([*charges, entry.charge(relation)], limit.delta, relation)
        if after <= limit.epsilon:
            return
        spent = _total(charges, limit.delta, relation)
        left = remaining_epsilon(charges, limit)
        raise BudgetExceededError(
            f"this run would bring a sample to epsilon {_short(after)} in {len(before) + 1} runs, "
            f"limit {limit.epsilon:.6g} at delta {limit.delta:.3g} ({relation}); spent so far "
            f"{_short(spent)}, left for one release {_short(left)}",
            where="privacy.account",
            remedy="Nothing was sent. Lower privacy.epsilon to what is left, or release nothing "
            "more of these samples.",
        )

    def encode_entry(self, entry: AccountEntry) -> bytes:
        """Return the line of ``entry``, as it follows the last one."""
        content = _entry_text(entry, self.head)
        digest = digest_bytes(_TAG, content.encode("ascii"))
        line = f'{content[:-1]},"digest":"{digest.hex}"}}\n'.encode("ascii")
        return line if self.ends_line else b"\n" + line


def remaining_epsilon(charges: Iterable[Charge], limit: AccountLimit) -> float:
    """Return the largest epsilon, at the limit's delta, of one Gaussian release that still fits."""
    paid = [charge.under(limit.relation) for charge in charges]
    pure = limit.epsilon - math.fsum(charge.epsilon for charge in paid)
    delta = limit.delta - math.fsum(charge.delta for charge in paid)
    mu = math.hypot(*(charge.mu for charge in paid))
    if not (pure > 0 and delta > 0) or math.isinf(mu):
        return 0.0
    most = 1.0 / gaussian_sigma(pure, delta, 1.0)
    if most <= mu:
        return 0.0
    return gaussian_epsilon(1.0, limit.delta, math.sqrt((most - mu) * (most + mu)))


def parse_account(content: bytes) -> PrivacyAccount:
    """Read an account file.

    Raises
    ------
    ValueError
        It is another file, or was changed; names the line.
    """
    *lines, rest = content.split(b"\n")
    entries, head = list[AccountEntry](), _FIRST
    by_run: dict[str, AccountEntry] = {}
    torn, ends = len(rest), True
    if rest and _is_whole(rest):
        # Killed between the record and its line break: what is whole may have been paid for.
        lines, torn, ends = [*lines, rest], 0, False
    for number, line in enumerate(lines, start=1):
        try:
            entry, head = _read_line(line, head)
            if entry.run in by_run:
                raise ValueError(f"the run {entry.run} is in it twice")
            by_run[entry.run] = entry
        except _UNREADABLE as error:
            raise ValueError(f"line {number}: {error}") from None
        entries.append(entry)
    if torn and not _is_torn(rest):
        raise ValueError(f"line {len(lines) + 1}: is no line of a privacy account")
    whole = len(content) - torn
    return PrivacyAccount(tuple(entries), head, whole, torn, ends, by_run)


def _total(charges: Iterable[Charge], delta: float, relation: Relation) -> float:
    return compose_charges(charges, delta, relation)[0]


def _short(epsilon: float) -> str:
    return f"{epsilon:.6g}"


def _is_torn(rest: bytes) -> bool:
    """Whether ``rest`` can be the beginning of a line; a disk may have put zeros behind it."""
    written = rest.rstrip(b"\0")
    return written.startswith(_BEGIN) or _BEGIN.startswith(written)


def _is_whole(rest: bytes) -> bool:
    try:
        _read_line(rest, None)
    except _UNREADABLE:
        return False
    return True


def _entry_text(entry: AccountEntry, head: Digest) -> str:
    values = {
        "format": _FORMAT,
        "previous": head.hex,
        "run": entry.run,
        "samples": entry.samples,
        "replace_one": _plain(entry.replace_one),
        "absent": _plain(entry.absent),
        "delta": repr(entry.delta),
        "limit": _plain(entry.limit),
        "time": entry.time,
        "folder": entry.folder,
        "data": entry.data,
        "mode": entry.mode,
        "count": entry.count,
    }
    # In this order, not sorted: a line shall begin with what it is. ASCII: no line break within.
    return json.dumps(values, separators=(",", ":"))


def _read_line(line: bytes, head: Digest | None) -> tuple[AccountEntry, Digest]:
    """Return the entry of a line and the line's digest; ``head`` None: any line may precede."""
    if not line.startswith(_BEGIN):
        raise ValueError("is no line of a privacy account")
    stored = json.loads(line)
    claimed = stored.pop("digest")
    if head is not None and stored["previous"] != head.hex:
        raise ValueError("does not follow the line before it: one was changed, added or taken out")
    del stored["format"]
    previous = Digest(_TAG, bytes.fromhex(stored.pop("previous")))
    limit = AccountLimit(
        float(stored["limit"]["epsilon"]),
        float(stored["limit"]["delta"]),
        stored["limit"]["relation"],
    )
    charges = {key: _read_charge(stored[key]) for key in ("replace_one", "absent")}
    delta = float(stored["delta"])
    entry = AccountEntry(**{**stored, **charges, "delta": delta, "limit": limit})
    content = _entry_text(entry, previous).encode("ascii")
    digest = digest_bytes(_TAG, content)
    # Written again it must be the same to the byte: a number spelt otherwise is a changed one.
    if claimed != digest.hex or line != content[:-1] + f',"digest":"{digest.hex}"}}'.encode():
        raise ValueError("was changed after it was written")
    return entry, digest


def _read_charge(stored: Mapping[str, Any]) -> Charge:
    mu, epsilon, delta = (float(stored[key]) for key in ("mu", "epsilon", "delta"))
    return Charge(mu, epsilon, delta, stored["relation"])


def _plain(value: Charge | AccountLimit) -> dict[str, str]:
    """Return the fields as texts; floats read back to the bit."""
    return {
        key: repr(one) if isinstance(one, float) else str(one) for key, one in asdict(value).items()
    }
