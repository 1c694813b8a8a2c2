"""What several runs over the same samples cost them together, from the runs' privacy ledgers.

Every run draws noise of its own and releases every sample anew, so costs of runs add up for
whoever sees what left in several of them. A restart of a run sends the same bits and costs nothing.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clicooper_hpc.config.load_job import load_canonical_job
from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.privacy.accounting import Charge, compose_charges
from clicooper_hpc.privacy.privacy_ledger import PrivacyLedger
from clicooper_hpc.privacy.sensitivity import Relation
from clicooper_hpc.runstore.private_folder import PrivateFolder
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.runstore.run_folder import LEDGER_FILE, RunFolder

__all__ = ["RepeatedReleases", "RunCharge", "compose_runs", "read_run_charge", "run_places"]

_INSECURE = "INSECURE"


@dataclass(frozen=True, slots=True)
class RunCharge:
    """What one run has cost the sample that paid most.

    Attributes
    ----------
    name
        Of the run folder.
    data
        Data set, as the resolved job names it.
    charge
        At least what any sample paid, in the relation of the run.
    epsilon, delta
        Of the run alone; infinite without noise, or with noise that anybody can draw again.
    relation
        Neighbours of the run's promise.
    """

    name: str
    data: str
    charge: Charge
    epsilon: float
    delta: float
    relation: Relation


@dataclass(frozen=True, slots=True)
class RepeatedReleases:
    """Several runs over one data set: what a sample has paid in all of them together.

    Attributes
    ----------
    data, names
        The data set and the runs.
    added
        Epsilon by addition.
    composed
        Epsilon with the Gaussian parts composed exactly; never above ``added``.
    delta
        Of both: the sum of the runs' deltas.
    relation
        ``"replace-one"`` unless all runs promise for ``"zero-out"``.
    """

    data: str
    names: tuple[str, ...]
    added: float
    composed: float
    delta: float
    relation: Relation

    @property
    def unit(self) -> str:
        """What it is stated for."""
        return "sample"


def run_places(folder: Path) -> list[Path]:
    """Return the folders in ``folder`` with a run from which something can have left, by name."""
    if not folder.is_dir():
        return []
    return sorted(one for one in folder.iterdir() if os.path.lexists(RunFolder(one).index))


def read_run_charge(run: Run) -> RunCharge:
    """Return what a run has cost.

    Raises
    ------
    RunFolderError
        Its job or its ledger is not there, or damaged.
    """
    job = load_canonical_job(str(run.attrs["resolved_job"]))
    ledger = _read_ledger(run)
    relation = job.privacy.relation
    if _INSECURE in str(run.privacy.get("rng_mode", "")):
        charge = Charge(epsilon=math.inf, relation=relation)
    else:
        charge = _largest_charge(ledger, relation)
    # As a run states its own: what its parts need comes on top of the delta of the release.
    delta = job.privacy.budget_delta or min(1.0, job.privacy.delta + charge.delta)
    epsilon, delta = compose_charges([charge], delta, relation)
    name = run.folder.path.name
    return RunCharge(name, job.data.path, charge, epsilon, delta, relation)


def compose_runs(runs: Iterable[RunCharge]) -> list[RepeatedReleases]:
    """Return what runs over the same data set cost together, one entry a data set.

    Runs that name the same data set are taken for runs over the same samples, whichever of them
    each one trains on.
    """
    by_data: dict[str, list[RunCharge]] = {}
    for run in runs:
        by_data.setdefault(run.data, []).append(run)
    return [_compose(data, charges) for data, charges in by_data.items()]


def _compose(data: str, runs: Sequence[RunCharge]) -> RepeatedReleases:
    zero_out = all(run.relation == "zero-out" for run in runs)
    relation: Relation = "zero-out" if zero_out else "replace-one"
    stated = [
        (run.epsilon, run.delta)
        if run.relation == relation
        # Group privacy of two, as for a charge.
        else compose_charges(
            [Charge.approximate(run.epsilon, run.delta, run.relation)], 1.0, relation
        )
        for run in runs
    ]
    added = math.fsum(epsilon for epsilon, _ in stated)
    delta = min(1.0, math.fsum(delta for _, delta in stated))
    composed, _ = compose_charges([run.charge for run in runs], delta, relation)
    return RepeatedReleases(
        data, tuple(run.name for run in runs), added, min(added, composed), delta, relation
    )


def _largest_charge(ledger: PrivacyLedger, relation: Relation) -> Charge:
    """Return a charge that is at least what a sample of any split has paid."""
    by_split: dict[str, list[Charge]] = {}
    for event in ledger.entries:
        # None is a label map: a secret, which no epsilon speaks of.
        if event.sample_charge is not None:
            by_split.setdefault(event.split, []).append(event.sample_charge.under(relation))
    # Part by part: another run may have the sample in another split.
    return Charge(
        mu=max((math.hypot(*(one.mu for one in paid)) for paid in by_split.values()), default=0.0),
        epsilon=max(
            (math.fsum(one.epsilon for one in paid) for paid in by_split.values()), default=0.0
        ),
        delta=min(
            1.0,
            max((math.fsum(one.delta for one in paid) for paid in by_split.values()), default=0.0),
        ),
        relation=relation,
    )


def _read_ledger(run: Run) -> PrivacyLedger:
    place = run.folder.private / LEDGER_FILE
    # Not made, as `PrivateFolder` does: a folder without secrets is no owner's.
    if not run.folder.private.is_dir():
        raise _no_ledger(place, "the run folder is without its private part")
    try:
        content = PrivateFolder(run.folder.private).read_secret(LEDGER_FILE)
        return PrivacyLedger.from_dict(json.loads(content))
    except (ValueError, RecursionError) as error:
        raise _no_ledger(place, str(error)) from None


def _no_ledger(place: Path, why: str) -> RunFolderError:
    return RunFolderError(
        f"what the run has cost its samples cannot be read ({why})",
        where=str(place),
        remedy="Bring back the private folder of the run as its owner left it.",
    )
