"""The delivered network of a finished run, read for the front of another: verified first.

All checks of `clicooper verify` are run on the folder, and the segments that are used are compared
once more with the signed delivery as they are read: nothing is taken that was not compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from torch import Tensor

from clicooper_hpc.config.job import Job
from clicooper_hpc.config.load_job import load_canonical_job
from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.errors import ClicooperError, DataError, EvidenceError, RunFolderError
from clicooper_hpc.fronts.delivered_network import DeliveredNetwork
from clicooper_hpc.printable import printable_text
from clicooper_hpc.privacy.front_run import FrontRun
from clicooper_hpc.provenance.statements import DeliveryStatement
from clicooper_hpc.provenance.tensor_digest import digest_tensors
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.runstore.regular_files import read_regular_file
from clicooper_hpc.runstore.run_folder import RunFolder
from clicooper_hpc.runstore.safetensors_files import unpack_safetensors
from clicooper_hpc.runstore.whole_run import open_whole_run
from clicooper_hpc.verification.ledger_view import LedgerView
from clicooper_hpc.verification.run_checks import run_checks_on
from clicooper_hpc.verification.run_evidence import collect_run_evidence

__all__ = [
    "check_front_run",
    "delivered_network_digest",
    "read_front_run",
    "signed_run_end",
]

_NETWORK_TAG: Final = "clicooper/v1/delivered-network"
_REMEDY: Final = "See `clicooper verify` on it; a front is taken only from a run that verifies."


def delivered_network_digest(delivery: DeliveryStatement) -> str:
    """Return the digest (hex) of all delivered segments, over their tensor roots in order."""
    roots = b"".join(bytes.fromhex(one.weights) for one in delivery.segments)
    return digest_bytes(_NETWORK_TAG, roots).hex


def signed_run_end(view: LedgerView) -> tuple[str, int, str, str]:
    """Return what names the end of a verified run: id, size and root of its ledger, network.

    Raises
    ------
    EvidenceError
        The ledger has no delivery.
    """
    for _, _, delivery in view.all_of(DeliveryStatement):
        network = delivered_network_digest(delivery)
        return view.run.run_id, view.size, view.root_at(view.size), network
    raise EvidenceError("the ledger has no delivery")


def read_front_run(job: Job) -> DeliveredNetwork | None:
    """Verify the run that ``job`` takes its front from and read what it delivered.

    None where the job takes no run's network. Its data are not looked at yet
    (`DeliveredNetwork.compare_data`).

    Raises
    ------
    RunFolderError
        There is no run, it has no proofs, or this version cannot read its job.
    EvidenceError
        It is unfinished, or does not verify.
    DataError
        Its network took other rows than raw ones.
    """
    if job.front.kind != "run" or job.front.run is None:
        return None
    path = job.front.run
    run, view = _verified_run(path)
    made = load_canonical_job(str(run.attrs["resolved_job"]))
    section = made.front
    if made.data.scaling != "none":
        raise DataError(
            f"run {view.run.run_id} scaled its data (data.scaling), so its network takes other "
            "rows than raw ones",
            where=f"front.run, {path}",
            remedy='Take a run with data.scaling = "none".',
        )
    if section.kind != "identity" or section.projection != "none" or section.normalise:
        raise DataError(
            f'run {view.run.run_id} trained behind a front of its own (front.kind = "'
            f'{section.kind}"), so its network takes other rows than raw ones',
            where=f"front.run, {path}",
            remedy='Take a run with front.kind = "identity", no projection and no normalise.',
        )
    promise = None
    if made.privacy.enabled:
        lines = str(run.privacy.get("promised", "")).splitlines()
        promise = next((" ".join(line.split()) for line in lines if line[:9] == "guarantee"), "")
    run_id, entries, root, network = signed_run_end(view)
    accuracy = run.results.get("clean_accuracy")
    facts = FrontRun(
        run_id=run_id,
        entries=entries,
        root=root,
        network=network,
        data=printable_text(Path(made.data.path).stem),
        accuracy=accuracy if isinstance(accuracy, float) else None,
        promise=None if promise is None else printable_text(promise),
    )
    segments = [
        _read_segment(run.folder, one.segment, one.weights)
        for _, _, delivery in view.all_of(DeliveryStatement)
        for one in delivery.segments
    ]
    return DeliveredNetwork(facts, made, view.run.cuts, segments)


def check_front_run(path: Path, facts: FrontRun) -> None:
    """Refuse a folder that now holds another run than the one a stored front was made from.

    A folder that is not there is no matter: a restart has the front.

    Raises
    ------
    EvidenceError
        Another run, or the same with another ledger.
    """
    if not RunFolder(path).index.exists():
        return
    try:
        view = LedgerView(collect_run_evidence(open_whole_run(path)))
        found = view.evidence.run_id, view.size, view.root_at(view.size)
    except ClicooperError as error:
        raise EvidenceError(
            f"the run that the front was made from cannot be read any more ({error.what})",
            where=f"front.run, {path}",
            remedy="Bring back its folder as it was, or move it away: a restart has the front.",
        ) from None
    if found != (facts.run_id, facts.entries, facts.root):
        raise EvidenceError(
            f"holds run {found[0]} with {found[1]} ledger entries and the root {found[2][:16]}..., "
            f"the front was made from run {facts.run_id} with {facts.entries} and "
            f"{facts.root[:16]}...",
            where=f"front.run, {path}",
            remedy="Bring back its folder as it was, or move it away: a restart has the front.",
        )


def _verified_run(path: Path) -> tuple[Run, LedgerView]:
    try:
        run = open_whole_run(path)
        view = LedgerView(collect_run_evidence(run))
    except RunFolderError as error:
        raise RunFolderError(
            f"no run to take a front from: {error.what}",
            where=f"front.run, {error.where or path}",
            remedy="Name the folder of a finished run that has proofs.",
        ) from None
    failed = [
        f"check {result.number} ({result.title}) failed: {result.detail}"
        for result in run_checks_on(view)
        if result.passed is False
    ]
    if failed:
        raise EvidenceError(
            f"the run does not verify: {failed[0]}", where=f"front.run, {path}", remedy=_REMEDY
        )
    return run, view


def _read_segment(folder: RunFolder, segment: int, root: str) -> dict[str, Tensor]:
    path = folder.delivery / f"segment-{segment:03d}.safetensors"
    try:
        content = read_regular_file(path, within=folder.path)
    except OSError as error:
        raise RunFolderError(f"cannot be read ({error.strerror})", where=str(path)) from None
    # Of the very bytes that are used: the file could have been changed since it was checked.
    if digest_tensors(content, where=str(path)).hex != root:
        raise EvidenceError(
            "the segment is not the one that was delivered", where=str(path), remedy=_REMEDY
        )
    return unpack_safetensors(content, where=str(path))
