"""Checks of a pack, numbered on from those of a run (`clicooper_hpc.verification.run_checks`).

20. Pack files: the owner who signed the ledger signed the digests of crate metadata, model and
    ledger; the crate names the digest of every other file, and nothing else is there.
21. Model signature: the key that the owner bound signed the list of the model's files.
22. Bill of materials: every claim, digest and version in it follows from the ledger entries it
    cites and from the files.
23. SLSA provenance: the owner signed it, and it follows from ledger and files.
24. Crate metadata: what it says follows from ledger and files.
25. README: what it says follows from ledger and files.

That the packed model is the delivered one is part of check 13: the tensors of the model's segments
are compared with the delivery.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from clicooper_hpc import __version__
from clicooper_hpc.errors import EvidenceError, RunFolderError
from clicooper_hpc.packing.bill_of_materials import bill_of_materials
from clicooper_hpc.packing.model_signature import (
    check_model_signature,
    model_root,
    public_key_pem,
)
from clicooper_hpc.packing.pack_content import PackContent
from clicooper_hpc.packing.pack_evidence import PackEvidence
from clicooper_hpc.packing.pack_files import (
    BILL,
    CRATE,
    MODEL,
    MODEL_KEY,
    MODEL_SIGNATURE,
    README,
    SLSA,
    STATEMENT,
    read_document,
)
from clicooper_hpc.packing.pack_readme import pack_readme
from clicooper_hpc.packing.pack_statement import PackStatement
from clicooper_hpc.packing.run_crate import run_crate
from clicooper_hpc.packing.slsa_provenance import check_slsa_provenance
from clicooper_hpc.verification.ledger_view import Findings, LedgerView
from clicooper_hpc.verification.run_checks import CHECKS, CheckResult, has_failed_checks

__all__ = ["PACK_CHECKS", "PackCheck", "run_pack_checks"]


@dataclass(frozen=True, slots=True)
class PackCheck:
    """One check: its title, what holds when it passes, what looks for problems.

    ``run`` returns what was looked at.
    """

    title: str
    sentence: str
    run: Callable[[PackEvidence, PackContent, Findings], str]


def run_pack_checks(
    pack: PackEvidence, view: LedgerView, results: Sequence[CheckResult]
) -> list[CheckResult]:
    """Run the checks of the pack behind ``results``, those of its ledger, which set up ``view``."""
    first = len(CHECKS) + 1
    if has_failed_checks(results):
        # What a wrong ledger says is nothing to hold documents against.
        cause = next(result.number for result in results if result.passed is False)
        return [
            CheckResult(first + place, check.title, None, f"not run: check {cause} failed")
            for place, check in enumerate(PACK_CHECKS)
        ]
    return [_result(first + place, check, pack, view) for place, check in enumerate(PACK_CHECKS)]


def _result(number: int, check: PackCheck, pack: PackEvidence, view: LedgerView) -> CheckResult:
    findings, detail = Findings(), ""
    try:
        with findings.at("pack"):
            detail = check.run(pack, pack.content(view), findings)
    except RunFolderError as error:
        findings.add_problem("pack", error.line())
    if findings:
        made_by = pack.statement.creator_version
        # Another version may word a document otherwise.
        other = "" if made_by == __version__ else f" (packed by clicooper-hpc {made_by})"
        return CheckResult(number, check.title, False, findings.text() + other)
    return CheckResult(number, check.title, True, detail)


def _check_files(pack: PackEvidence, content: PackContent, findings: Findings) -> str:
    view, said = content.view, pack.statement
    with findings.at(STATEMENT):
        envelope = read_document(pack.folder, STATEMENT).removesuffix(b"\n")
        PackStatement.from_envelope(envelope, view.owner, where=STATEMENT)
    findings.expect(STATEMENT, "the size of its ledger", said.ledger.size, view.size)
    findings.expect(STATEMENT, "the root of its ledger", said.ledger.root, view.root_at(view.size))
    found = pack.files[CRATE].sha256 if CRATE in pack.files else "missing"
    findings.expect(CRATE, "its digest", found, said.crate)
    findings.expect(MODEL, "its digest", model_root(content.model_files()), said.model)
    for place in pack.empty_folders:
        findings.add_problem(f"{place}/", "an empty folder, which the owner did not pack")
    named = _named_digests(read_document(pack.folder, CRATE))
    for path in sorted(named.keys() | content.files.keys()):
        if path not in content.files:
            findings.add_problem(path, "it is missing")
        elif path not in named:
            findings.add_problem(path, "the crate metadata do not name it")
        else:
            findings.expect(path, "its digest", content.files[path].sha256, named[path])
    return f"files: {len(pack.files)}"


def _check_model_signature(pack: PackEvidence, content: PackContent, findings: Findings) -> str:
    public = bytes.fromhex(pack.statement.model_key)
    with findings.at(MODEL_SIGNATURE):
        signature = read_document(pack.folder, MODEL_SIGNATURE)
        check_model_signature(signature, public, MODEL, content.model_files())
    if read_document(pack.folder, MODEL_KEY) != public_key_pem(public):
        findings.add_problem(MODEL_KEY, "it is not the key that the owner bound")
    return f"files of the model: {len(content.model_files())}"


def _check_bill(pack: PackEvidence, content: PackContent, findings: Findings) -> str:
    wanted = bill_of_materials(content)
    _expect_document(pack, BILL, wanted, findings)
    claims = wanted["declarations"]["claims"]
    return f"claims: {len(claims)}, entries cited: {len(wanted['declarations']['evidence'])}"


def _check_slsa(pack: PackEvidence, content: PackContent, findings: Findings) -> str:
    with findings.at(SLSA):
        envelope = read_document(pack.folder, SLSA).removesuffix(b"\n")
        check_slsa_provenance(content, envelope, content.view.owner)
    return f"subjects: {len(content.model_files())}"


def _check_crate(pack: PackEvidence, content: PackContent, findings: Findings) -> str:
    wanted = run_crate(content)
    _expect_document(pack, CRATE, wanted, findings)
    return f"entities: {len(wanted['@graph'])}"


def _check_readme(pack: PackEvidence, content: PackContent, findings: Findings) -> str:
    if read_document(pack.folder, README) != pack_readme(content).encode():
        findings.add_problem(README, "it says something else")
    return "as this version writes it"


def _named_digests(crate: bytes) -> dict[str, str]:
    """Return the digests that crate metadata name, as far as they can be read."""
    graph = _parse(crate, CRATE).get("@graph")
    return {
        str(one.get("@id")): str(one["sha256"])
        for one in (graph if isinstance(graph, list) else ())
        if isinstance(one, dict) and "sha256" in one
    }


def _expect_document(
    pack: PackEvidence, name: str, wanted: dict[str, Any], findings: Findings
) -> None:
    with findings.at(name):
        found = _parse(read_document(pack.folder, name), name)
        try:
            difference = _first_difference(found, wanted, "")
        except RecursionError:
            raise EvidenceError("it is nested too deeply") from None
        if difference is not None:
            place, mine, theirs = difference
            findings.expect(f"{name}, {place}", "what it says", mine, theirs)


def _parse(content: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise EvidenceError(f"{name} is no object of JSON")
    return value


def _first_difference(found: Any, wanted: Any, place: str) -> tuple[str, str, str] | None:
    """Return place, found and wanted value of the first difference of two JSON values."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in [*wanted, *(key for key in found if key not in wanted)]:
            inner = f"{place}.{key}" if place else str(key)
            if key not in found or key not in wanted:
                return inner, _shown(found, key), _shown(wanted, key)
            if (inside := _first_difference(found[key], wanted[key], inner)) is not None:
                return inside
        return None
    if isinstance(found, list) and isinstance(wanted, list):
        for index, (mine, theirs) in enumerate(zip(found, wanted, strict=False)):
            if (inside := _first_difference(mine, theirs, f"{place}[{index}]")) is not None:
                return inside
        return (
            None
            if len(found) == len(wanted)
            else (place, f"{len(found)} items", f"{len(wanted)} items")
        )
    # Not ==: true would be 1.
    return (
        None
        if json.dumps(found) == json.dumps(wanted)
        else (place, json.dumps(found), json.dumps(wanted))
    )


def _shown(value: dict[str, Any], key: str) -> str:
    return json.dumps(value[key]) if key in value else "absent"


#: Check 20 + n is ``PACK_CHECKS[n]``.
PACK_CHECKS: Final[tuple[PackCheck, ...]] = (
    PackCheck(
        "Pack files",
        "the owner who signed the ledger signed the digests of crate metadata, model and ledger; "
        "the crate names the digest of every other file, and nothing else is there.",
        _check_files,
    ),
    PackCheck(
        "Model signature",
        "the key that the owner bound signed the list of the model's files.",
        _check_model_signature,
    ),
    PackCheck(
        "Bill of materials",
        "every claim, digest and version in it follows from the ledger entries it cites and from "
        "the files.",
        _check_bill,
    ),
    PackCheck(
        "SLSA provenance",
        "the owner signed it, and it follows from ledger and files.",
        _check_slsa,
    ),
    PackCheck(
        "Crate metadata",
        "what it says follows from ledger and files.",
        _check_crate,
    ),
    PackCheck(
        "README",
        "what it says follows from ledger and files.",
        _check_readme,
    ),
)
