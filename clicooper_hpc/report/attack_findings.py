"""What attacks on a run found, for the page: the owner's file of findings, if it is asked for."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from clicooper_hpc.report.numbers import NONE, number_text
from clicooper_hpc.report.run_reading import RunReading
from clicooper_hpc.runstore.attack_record import ATTACKS_FILE, AttackRecord, read_attack_record

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AttackFindings", "AttackRow", "PictureStrip", "read_attack_findings_of"]

_ORIGINALS: Final = "originals"
_PICTURES: Final = 8
_STRIPS: Final = 12
#: Numbers of one strip of pictures; a stranger's file may hold any.
_MOST_VALUES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class AttackRow:
    """One line of the table: who, how, what was measured, and the figures as text.

    ``kind``: the paper's own metric, or the honest one.
    """

    attack: str
    party: str
    metric: str
    kind: str
    value: str
    chance: str
    baseline: str
    ceiling: str
    above_ceiling: bool


@dataclass(frozen=True, slots=True)
class PictureStrip:
    """Some pictures side by side as a PNG in a data URL, and what they show."""

    title: str
    url: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class AttackFindings:
    """The strongest variant of each attack in each metric; attacks without figures; pictures.

    ``about`` says how the attacks were run.
    """

    about: str
    rows: Sequence[AttackRow]
    without: Sequence[str]
    strips: Sequence[PictureStrip]


def read_attack_findings_of(reading: RunReading) -> AttackFindings | None:
    """Return the findings in the private folder of ``reading``'s run; None if there are none."""
    record = reading.attempt(
        "findings of attacks", lambda: read_attack_record(reading.run.folder.private / ATTACKS_FILE)
    )
    if record is None:
        return None
    if record.attributes.get("run_id") != reading.run.attrs["run_id"]:
        reading.add_gap("findings of attacks: they are of another run")
        return None
    return _findings(record, reading)


def _findings(record: AttackRecord, reading: RunReading) -> AttackFindings:
    # Here alone: attacks need torch.
    from clicooper_hpc.attacks.harness.record import record_results
    from clicooper_hpc.attacks.harness.table import strongest_table_lines, table_lines
    from clicooper_hpc.attacks.harness.tasks import FAILED, NOT_APPLICABLE

    line = reading.public.line
    rows, without = [], []
    for one in strongest_table_lines(table_lines(record_results(record))):
        if one.metric in (FAILED, NOT_APPLICABLE):
            without.append(line(f"{one.attack}, {one.party}, {one.metric}: {one.note}"))
            continue
        ends = "" if math.isnan(one.low) else f" [{number_text(one.low)}, {number_text(one.high)}]"
        rows.append(
            AttackRow(
                attack=line(f"{one.attack}, {one.variant}" if one.variant else one.attack),
                party=line(one.party),
                metric=line(one.metric),
                kind=line(one.kind),
                value=f"{number_text(one.value)}{ends}",
                chance=number_text(one.chance),
                baseline=number_text(one.baseline),
                ceiling=number_text(one.ceiling),
                above_ceiling=one.above_ceiling,
            )
        )
    return AttackFindings(_about(record, reading), rows, without, _strips(record, reading))


def _about(record: AttackRecord, reading: RunReading) -> str:
    seeds, scale = (number_text(record.attributes.get(name)) for name in ("seeds", "scale"))
    reduced = "" if scale == "1" else " (REDUCED: not what was published)"
    images, public = (record.attributes.get(name, NONE) for name in ("aux_same", "aux_public"))
    return reading.public.line(
        f"{seeds} seed{'s' * (seeds != '1')} each, strength {scale}{reduced}; attackers may have "
        f"{images} images of the owner's distribution and public data: {public}."
    )


def _strips(record: AttackRecord, reading: RunReading) -> list[PictureStrip]:
    """Return originals and what attacks made of them, of the first seed."""
    reconstructing = {key[:3] for key in record.arrays if key[3] == _ORIGINALS and key[2] == 0}
    strips: list[PictureStrip] = []
    # Of each attack the originals first.
    ordered = sorted(record.arrays, key=lambda key: (key[:3], key[3] != _ORIGINALS, key[3]))
    for attack, party, seed, name in ordered:
        values = record.arrays[attack, party, seed, name]
        if (attack, party, seed) in reconstructing:
            title = reading.public.line(f"{attack}, {party}: {name}")
            if len(strips) == _STRIPS:
                reading.add_gap(f"pictures of attacks: {_STRIPS} rows are shown, there are more")
                break
            strip = _strip(title, np.asarray(values))
            if strip is None:
                reading.add_gap(f"pictures of {title}: these are none")
            else:
                strips.append(strip)
    return strips


def _strip(title: str, values: NDArray[Any]) -> PictureStrip | None:
    """Draw float [n, channels, height, width] in [0, 1] side by side; None for anything else."""
    from PIL import Image

    if values.ndim != 4 or values.size == 0 or values.dtype.kind not in "fiu":
        return None
    shown = np.nan_to_num(values[:_PICTURES].astype(np.float32))
    if shown.size > _MOST_VALUES:
        return None
    # Three channels are colours; of any other number the mean is shown.
    if shown.shape[1] != 3:
        shown = shown.mean(axis=1, keepdims=True).repeat(3, axis=1)
    row = np.concatenate(list(np.clip(shown, 0.0, 1.0)), axis=2).transpose(1, 2, 0)
    stream = io.BytesIO()
    Image.fromarray((255 * row).round().astype(np.uint8)).save(stream, "PNG", optimize=True)
    url = f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
    # Small pictures enlarged by a whole number, so that their pixels stay squares.
    scale = max(1, 48 // row.shape[0])
    return PictureStrip(title, url, row.shape[1] * scale, row.shape[0] * scale)
