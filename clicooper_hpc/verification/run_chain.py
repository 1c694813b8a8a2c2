"""The chain of runs behind a run: fronts that earlier runs delivered, verified one after the other.

A run whose job says ``front.kind = "run"`` names in its signed privacy card the run that made its
front, with the root of that run's whole ledger and the digest of its network. Where the folder of
that run is at hand, all its checks are run and both are compared: under that root stand its keys,
its job and everything that was signed in it. What is not at hand is said to be not checked, as
with other evidence that is not there; who insists gives the folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from clicooper_hpc.errors import EvidenceError, RunFolderError
from clicooper_hpc.printable import printable_text
from clicooper_hpc.privacy.front_run import find_front_run
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.runstore.run_folder import RunFolder
from clicooper_hpc.runstore.whole_run import open_whole_run
from clicooper_hpc.verification.front_run import signed_run_end
from clicooper_hpc.verification.ledger_view import LedgerView
from clicooper_hpc.verification.run_checks import CheckResult, run_checks_on
from clicooper_hpc.verification.run_evidence import collect_run_evidence

__all__ = ["ChainLink", "follow_run_chain"]

#: Runs behind each other that are followed: a stranger's folders may name each other for ever.
_MOST_RUNS: Final = 8
_PARTS: Final = ("run id", "ledger's size", "ledger's root", "network's digest")
#: Number of the check of the run statement, under which job and card stand.
_RUN_STATEMENT: Final = 2


@dataclass(frozen=True, slots=True)
class ChainLink:
    """What was found of one run behind another; ``passed`` is None where it was not looked at."""

    run_id: str
    passed: bool | None
    detail: str

    def line(self) -> str:
        """Return the finding as a line of the report."""
        word = {True: "ok", False: "FAILED", None: "-"}[self.passed]
        return printable_text(f"front run  {word:<6}  {self.run_id}: {self.detail}")

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as plain values."""
        return {"run_id": self.run_id, "passed": self.passed, "detail": self.detail}


def follow_run_chain(
    run: Run, results: Sequence[CheckResult], folders: Sequence[Path] = ()
) -> list[ChainLink]:
    """Verify the runs that the front of ``run`` comes from, the nearest first.

    Parameters
    ----------
    results
        Of the checks of ``run``.
    folders
        Where these runs lie, nearest first, where they are not found by the path of the job, or
        beside ``run`` under the same name.

    Raises
    ------
    RunFolderError
        A given folder holds no run.
    """
    links: list[ChainLink] = []
    given, seen = list(folders), {str(run.attrs["run_id"])}
    while (section := _front_section(run)).get("kind") == "run":
        if results[_RUN_STATEMENT - 1].passed is not True:
            what = f"not checked: check {_RUN_STATEMENT} failed, under which its name stands"
            return [*links, ChainLink("not known", None, what)]
        end = find_front_run(str(run.privacy.get("promised", "")))
        if end is None:
            what = "the privacy card names no run, although the job takes the front from one"
            return [*links, ChainLink("not known", False, what)]
        if end[0] in seen:
            return [*links, ChainLink(end[0], False, "it stands behind itself")]
        if len(links) == _MOST_RUNS:
            what = f"not checked: {_MOST_RUNS} runs behind each other are followed"
            return [*links, ChainLink(end[0], None, what)]
        seen.add(end[0])
        folder = given.pop(0) if given else _find_folder(run, section)
        if folder is None:
            what = "not checked: there is no run at {}; name its folder with --front-run"
            return [*links, ChainLink(end[0], None, what.format(section.get("run")))]
        run = open_whole_run(folder)
        link, results = _verify_link(run, end)
        links.append(link)
        if not link.passed:
            # What a run that does not hold says of runs behind it is nobody's word.
            return links
    if given:
        raise RunFolderError(
            "there are more folders than runs behind this one",
            where=f"--front-run {given[0]}",
            remedy="Name one folder for each run behind it, the nearest first.",
        )
    return links


def _verify_link(
    run: Run, end: tuple[str, int, str, str]
) -> tuple[ChainLink, Sequence[CheckResult]]:
    """Run all checks of ``run`` and compare how it ends with what the run before it signed."""
    path = run.folder.path
    found_id = str(run.attrs["run_id"])
    if found_id != end[0]:
        return ChainLink(end[0], False, f"{path} holds another run, {found_id}"), ()
    try:
        view = LedgerView(collect_run_evidence(run))
        results = run_checks_on(view)
        failed = [one for one in results if one.passed is False]
        if failed:
            what = f"check {failed[0].number} ({failed[0].title}) failed: {failed[0].detail}"
            return ChainLink(end[0], False, f"{path}: {what}"), results
        found = signed_run_end(view)
    except (EvidenceError, RunFolderError) as error:
        return ChainLink(end[0], False, f"{path}: {error.what}"), ()
    for name, is_now, signed in zip(_PARTS, found, end, strict=True):
        if is_now != signed:
            what = f"its {name} is {str(is_now)[:16]}, the card names {str(signed)[:16]}"
            return ChainLink(end[0], False, f"{path}: {what}"), results
    what = f"{len(results)} checks, its ledger and network are those that the card names"
    return ChainLink(
        end[0], True, f"{what}; `clicooper verify {path}` lists what none reads"
    ), results


def _front_section(run: Run) -> dict[str, Any]:
    try:
        return run.job_section("front")
    # No job: check 2 finds that nobody signed it.
    except RunFolderError:
        return {}


def _find_folder(run: Run, section: dict[str, Any]) -> Path | None:
    """Return the folder that the job names, or one of its name beside ``run``; None if neither."""
    stored = section.get("run")
    if not isinstance(stored, str) or not stored:
        return None
    places = (Path(stored), run.folder.path.resolve().parent / Path(stored).name)
    return next((one for one in places if RunFolder(one).index.is_file()), None)
