"""`clicooper account`: the entries of a privacy account, and what its samples have paid in all."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from clicooper_hpc.commands.command import Command, add_json_option, print_facts, print_report
from clicooper_hpc.errors import ExitCode

if TYPE_CHECKING:
    from clicooper_hpc.privacy.account import AccountEntry, PrivacyAccount

__all__ = ["ACCOUNT", "account_facts", "account_text"]


def _add_account_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE")
    add_json_option(parser)


def _account(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.owner.run_account import read_account

    # As paths in a job are: through links to the file itself.
    account = read_account(Path(os.path.realpath(arguments.file)))
    if arguments.json:
        return print_facts(account_facts(account))
    print_report(account_text(account))
    return ExitCode.DONE


def account_facts(account: PrivacyAccount) -> dict[str, object]:
    """Return the account as JSON values."""
    return {
        "entries": [_entry_facts(entry) for entry in account.entries],
        "samples": [_samples_facts(account, samples) for samples in _samples_of(account)],
        "torn_bytes": account.torn_bytes,
    }


def account_text(account: PrivacyAccount) -> str:
    """Return the account as a table for each set of samples, and what was paid below it."""
    lines = []
    for samples in _samples_of(account):
        entries = account.entries_of(samples)
        last = entries[-1]
        lines += [
            f"samples {samples[:16]}: {last.count} of {last.data}",
            f"{'time (UTC)':<20} {'run':<10} {'release':<9} {'epsilon':>9} {'without':>9} "
            f"{'delta':>9}  folder",
        ]
        lines += [_entry_line(entry) for entry in entries]
        facts = _samples_facts(account, samples)
        epsilon, absent, left = (facts[key] for key in ("epsilon", "absent_epsilon", "left"))
        lines += [
            f"together: epsilon {epsilon:.6g} (replace-one), {absent:.6g} (without the sample: "
            f"zero-out or add-remove) at delta {last.limit.delta:.3g}",
            f"          limit {last.limit.epsilon:.6g} ({last.limit.relation}) as the last run had "
            f"it; left for one release {left:.6g}",
            "",
        ]
    if account.torn_bytes:
        lines.append(
            f"{account.torn_bytes} bytes behind the last line: a run is writing it now, or was "
            "killed before it sent anything"
        )
    return "\n".join(lines or ["no entries: nothing was reserved"]).rstrip("\n")


def _samples_of(account: PrivacyAccount) -> list[str]:
    """Return the fingerprints in the account, in the order of their first run."""
    return list(dict.fromkeys(entry.samples for entry in account.entries))


def _alone(entry: AccountEntry) -> tuple[float, float]:
    """Return what the run costs by itself, under both relations, at the delta of its release."""
    from clicooper_hpc.privacy.accounting import compose_charges

    replaced, _ = compose_charges([entry.replace_one], entry.delta, "replace-one")
    absent, _ = compose_charges([entry.absent], entry.delta, "zero-out")
    return replaced, absent


def _entry_line(entry: AccountEntry) -> str:
    replaced, absent = _alone(entry)
    return (
        f"{entry.time[:19]:<20} {entry.run[:8]:<10} {entry.mode:<9} {replaced:>9.4g} "
        f"{absent:>9.4g} {entry.delta:>9.3g}  {entry.folder}"
    )


def _entry_facts(entry: AccountEntry) -> dict[str, object]:
    replaced, absent = _alone(entry)
    return {
        "run": entry.run,
        "time": entry.time,
        "folder": entry.folder,
        "data": entry.data,
        "samples": entry.samples,
        "count": entry.count,
        "mode": entry.mode,
        "epsilon": replaced,
        "absent_epsilon": absent,
        "delta": entry.delta,
        "limit": {
            "epsilon": entry.limit.epsilon,
            "delta": entry.limit.delta,
            "relation": entry.limit.relation,
        },
    }


def _samples_facts(account: PrivacyAccount, samples: str) -> dict[str, float | str | int]:
    from clicooper_hpc.privacy.account import remaining_epsilon

    entries = account.entries_of(samples)
    limit = entries[-1].limit
    return {
        "samples": samples,
        "runs": len(entries),
        "epsilon": account.spent(samples, limit.delta, "replace-one"),
        "absent_epsilon": account.spent(samples, limit.delta, "zero-out"),
        "delta": limit.delta,
        "limit_epsilon": limit.epsilon,
        "limit_relation": limit.relation,
        "left": remaining_epsilon([one.charge(limit.relation) for one in entries], limit),
    }


ACCOUNT = Command(
    "account",
    "show what samples have paid in all runs together",
    _add_account_options,
    _account,
)
