"""Files with the opened key of one stage's mark (`clicooper keys open-mark`), for a dispute.

Whoever has it can read that one mark, and erase it; the marks of other stages stay safe.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clicooper_hpc.errors import (
    EnvironmentUnfitError,
    EvidenceError,
    RunFolderError,
    UsageError,
)
from clicooper_hpc.provenance.canonical_json import (
    Json,
    encode_canonical_json,
    parse_canonical_json,
)
from clicooper_hpc.provenance.marks.mark_keys import MarkOpening, open_mark_key
from clicooper_hpc.runstore.atomic_files import write_private_atomically
from clicooper_hpc.runstore.private_folder import PrivateFolder
from clicooper_hpc.runstore.regular_files import read_named_file
from clicooper_hpc.runstore.run_folder import MARK_KEY_FILE
from clicooper_hpc.runstore.whole_run import open_whole_run
from clicooper_hpc.verification.run_evidence import collect_run_evidence, evidence_run_statement

__all__ = ["OpenedMark", "read_mark_opening", "write_mark_opening"]

_FORMAT = "clicooper-mark-opening/v1"
_LIMIT = 65536


@dataclass(frozen=True, slots=True)
class OpenedMark:
    """An opening and the run and segment it belongs to."""

    run_id: str
    segment: int
    opening: MarkOpening

    def to_bytes(self) -> bytes:
        """Encode as canonical JSON."""
        proof: list[Json] = [node.hex() for node in self.opening.proof]
        return encode_canonical_json(
            {
                "format": _FORMAT,
                "key": self.opening.key.hex(),
                "proof": proof,
                "run_id": self.run_id,
                "segment": self.segment,
                "stage": self.opening.index,
            }
        )


def write_mark_opening(path: Path, *, segment: int, stage: int, output: Path) -> OpenedMark:
    """Open the mark of one stage of the run in ``path`` and write it to ``output`` (mode 0600).

    Raises
    ------
    UsageError
        The run has no such segment or stage, or ``output`` is there already.
    RunFolderError
        The trainer's mark secret is not in the run folder.
    """
    run = open_whole_run(path)
    statement = evidence_run_statement(collect_run_evidence(run).entries)
    if statement is None:
        raise UsageError("the run's ledger does not begin with a run statement", where=str(path))
    if not (1 <= segment <= statement.segments and 0 <= stage < statement.stages):
        raise UsageError(
            f"there is no segment {segment}, stage {stage}",
            where=str(path),
            remedy=f"Segments are 1 to {statement.segments}, stages 0 to {statement.stages - 1}.",
        )
    # An opened key cannot be closed again, and a file with it is never replaced.
    if output.exists():
        raise UsageError("there is a file already", where=str(output), remedy="Choose another.")
    private = run.folder.private / f"rank-{segment:03d}"
    if not (private / MARK_KEY_FILE).is_file():
        raise RunFolderError(
            f"the secret of segment {segment}'s marks is not here",
            where=str(private),
            remedy="Open the mark where its trainer keeps the run folder.",
        )
    master = PrivateFolder(private).read_secret(MARK_KEY_FILE)
    opening = open_mark_key(statement.run_id, segment, master, statement.stages, stage)
    opened = OpenedMark(statement.run_id, segment, opening)
    try:
        write_private_atomically(output, opened.to_bytes(), foreign_folder=True)
    except OSError as error:
        raise EnvironmentUnfitError(
            f"the mark key cannot be written ({error.strerror})", where=str(output)
        ) from error
    return opened


def read_mark_opening(path: Path) -> OpenedMark:
    """Read a file that `write_mark_opening` wrote.

    Raises
    ------
    UsageError
        It is missing or nothing of that kind.
    """
    try:
        content = read_named_file(path, most=_LIMIT)
        value = parse_canonical_json(content, limit=_LIMIT)
        if not isinstance(value, dict) or value.pop("format", None) != _FORMAT:
            raise ValueError("it is no mark key")
        key, proof, run_id = value["key"], value["proof"], value["run_id"]
        segment, stage = value["segment"], value["stage"]
        if not (isinstance(key, str) and isinstance(run_id, str) and isinstance(proof, list)):
            raise TypeError("a field has another type")
        # Not isinstance: True is an int, too.
        if not (type(segment) is int and type(stage) is int):
            raise TypeError("segment or stage is no number")
        nodes = tuple(bytes.fromhex(str(node)) for node in proof)
        opened = OpenedMark(run_id, segment, MarkOpening(bytes.fromhex(key), stage, nodes))
        # Python reads hexadecimal digits with blanks and capitals, too; nothing is passed over.
        if opened.to_bytes() != content:
            raise ValueError("it is not written as mark keys are")
        return opened
    except (OSError, ValueError, TypeError, KeyError, EvidenceError, RunFolderError) as error:
        raise UsageError(
            f"the mark key cannot be read ({error})",
            where=str(path),
            remedy="Make it with `clicooper keys open-mark`.",
        ) from None
