"""Search for marks with opened keys, in the delivered segments or in a suspect weights file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.errors import DataError, EvidenceError, RunFolderError
from clicooper_hpc.provenance.marks.channel_alignment import align_channels
from clicooper_hpc.provenance.safetensors_layout import read_safetensors_layout
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.runstore.regular_files import read_named_file, read_regular_file
from clicooper_hpc.verification.evidence import Evidence
from clicooper_hpc.verification.marks.claim import read_mark_claim
from clicooper_hpc.verification.marks.opening import OpenedMark, read_mark_opening

__all__ = ["FOUND_LOG2_P", "MarkResult", "search_marks"]

#: A mark counts as found below this bound, whatever the number of attempts.
FOUND_LOG2_P: Final = -64.0

_Arrays = dict[str, NDArray[np.floating]]


@dataclass(frozen=True, slots=True)
class MarkResult:
    """A mark looked for in some weights.

    ``log2_p`` bounds the chance that unmarked weights read as well in any of ``attempts`` readings.
    """

    segment: int
    stage: int
    keyid: str
    source: str
    bits: int
    errors: int
    statistic: float
    log2_p: float
    attempts: int
    aligned: bool

    @property
    def found(self) -> bool:
        """Whether chance is ruled out."""
        return self.log2_p <= FOUND_LOG2_P

    def line(self) -> str:
        """Return one line for people."""
        verdict = "found" if self.found else "NOT found"
        how = " after aligning its channels" if self.aligned else ""
        return (
            f"mark of segment {self.segment}, stage {self.stage} in {self.source}{how}: {verdict}; "
            f"BER {self.errors}/{self.bits}, T {self.statistic:.2f}, p <= 2^{self.log2_p:.1f} "
            f"(readings tried: {self.attempts}); key of {self.keyid[:16]}"
        )

    def as_dict(self) -> dict[str, object]:
        """Return all fields for JSON."""
        return {
            **{name: getattr(self, name) for name in self.__slots__},
            "found": self.found,
        }


def search_marks(
    run: Run, evidence: Evidence, keys: Sequence[Path], suspect: Path | None
) -> list[MarkResult]:
    """Look for the mark of every key in the delivered segment, or in the file ``suspect``.

    Every reading counts: p is multiplied by the number of readings made. A suspect is read as it
    is, and again with its channels aligned to the delivered segment.
    """
    opened = [read_mark_opening(path) for path in keys]
    # All that will be tried, also what comes to nothing: p is for the best of them.
    attempts = len(opened) * (1 if suspect is None else 2)
    return [_search_mark(run, evidence, one, suspect, attempts) for one in opened]


def _search_mark(
    run: Run, evidence: Evidence, opened: OpenedMark, suspect: Path | None, attempts: int
) -> MarkResult:
    if opened.run_id != evidence.run_id:
        raise EvidenceError(
            f"the mark key belongs to run {opened.run_id}, not to {evidence.run_id}",
            where="--mark-key",
        )
    delivered = run.folder.delivery / f"segment-{opened.segment:03d}.safetensors"
    own = load_search_tensors(delivered, within=run.folder.path)
    shapes = {name: value.shape for name, value in own.items()}
    choices: list[tuple[bool, _Arrays]] = []
    if suspect is None:
        choices.append((False, own))
    else:
        theirs = load_search_tensors(suspect)
        # Unaligned only where it fits at all: a suspect may have other shapes.
        if all(name in theirs and theirs[name].shape == shape for name, shape in shapes.items()):
            choices.append((False, theirs))
        choices.append((True, dict(align_channels(theirs, own))))
    findings = []
    for aligned, tensors in choices:
        claim = read_mark_claim(evidence, opened.segment, opened.opening, tensors, shapes=shapes)
        reading = claim.reading
        findings.append(
            MarkResult(
                segment=claim.segment,
                stage=claim.stage,
                keyid=claim.keyid,
                source=str(suspect or delivered.name),
                bits=reading.bits,
                errors=reading.errors,
                statistic=reading.statistic,
                log2_p=min(0.0, reading.log2_p + math.log2(attempts)),
                attempts=attempts,
                aligned=aligned,
            )
        )
    return min(findings, key=lambda finding: finding.log2_p)


def load_search_tensors(path: Path, *, within: Path | None = None) -> _Arrays:
    """Read the floating-point tensors of a safetensors file as float32 or float64 arrays.

    ``within`` is the run folder the file belongs to, None for one that the user named.

    Raises
    ------
    DataError
        The file is missing, no regular file or not safetensors.
    """
    try:
        if within is None:
            content = read_named_file(path)
        else:
            content = read_regular_file(path, within=within)
        layout = read_safetensors_layout(content, where=str(path))
    except OSError as error:
        raise DataError(
            f"the weights cannot be read ({error.strerror})",
            where=str(path),
            remedy="Give a safetensors file.",
        ) from error
    except (EvidenceError, RunFolderError) as error:
        raise DataError(error.what, where=str(path), remedy="Give a safetensors file.") from None
    arrays: _Arrays = {}
    for name, tensor in layout.items():
        if tensor.dtype == "BF16":
            # bfloat16 is the upper half of a float32.
            high = np.frombuffer(tensor.content, "<u2").astype(np.uint32) << 16
            arrays[name] = high.view(np.float32).reshape(tensor.shape)
        elif tensor.dtype in ("F16", "F32", "F64"):
            kind = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}[tensor.dtype]
            value = np.frombuffer(tensor.content, kind).reshape(tensor.shape)
            arrays[name] = value.astype(np.float64 if kind == "<f8" else np.float32)
    return arrays
