"""What the owner keeps of the samples a run was trained on, so that the model can be used later.

Names of the classes; range, mean and deviation of the numbers. They are kept in ``private/``:
whoever uses the model needs no training data, and nobody else learns a name.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.data.class_labels import check_class_names
from clicooper_hpc.data.split import Split
from clicooper_hpc.data.tables.table_mapping import TableMapping
from clicooper_hpc.errors import DataError

__all__ = ["InputFacts", "NumberMoments", "observe_input"]

_BLOCK = 4096
#: Training samples that mean and deviation are taken of: a set may be larger than any disk cache.
_MOST_ROWS = 4096


@dataclass(slots=True)
class NumberMoments:
    """Mean and standard deviation of all numbers added so far, whatever their order."""

    count: int = 0
    mean: float = 0.0
    _squares: float = 0.0

    def add_numbers(self, numbers: NDArray[np.float32]) -> None:
        """Add numbers, float32 of any shape."""
        if not numbers.size:
            return
        count, mean = numbers.size, float(numbers.mean(dtype=np.float64))
        squares = float(numbers.var(dtype=np.float64)) * count
        # Merged about both means (Chan et al.): sums of squares would lose small deviations.
        apart, whole = mean - self.mean, self.count + count
        self._squares += squares + apart * apart * self.count * count / whole
        self.mean += apart * count / whole
        self.count = whole

    @property
    def deviation(self) -> float:
        """Standard deviation; 0 of nothing."""
        return math.sqrt(self._squares / self.count) if self.count else 0.0


@dataclass(frozen=True, slots=True)
class InputFacts:
    """Class names in order; dtype of the samples as stored; least and largest number as read.

    Samples stored as uint8 are read as float32 in [0, 1] (`Split.read`). ``mean`` and
    ``deviation`` of all numbers of a sample of the training samples; None of a run of an earlier
    version, which kept neither. ``table``: how a table became their features, if it was one.
    """

    class_names: tuple[str, ...]
    stored_as: str
    lowest: float
    highest: float
    mean: float | None = None
    deviation: float | None = None
    table: TableMapping | None = None

    def to_private_bytes(self) -> bytes:
        """Return the facts as JSON, for a `PrivateFolder`."""
        # As its own text, which checks itself when it is read.
        table = None if self.table is None else self.table.to_json()
        plain = {**asdict(replace(self, table=None)), "table": table}
        known = {name: value for name, value in plain.items() if value is not None}
        return json.dumps(known, allow_nan=False).encode()

    @classmethod
    def from_private_bytes(cls, stored: bytes) -> InputFacts:
        """Read `to_private_bytes`; ``ValueError`` if it did not write ``stored``."""
        try:
            content = json.loads(stored)
            facts = cls(
                class_names=tuple(map(str, content["class_names"])),
                stored_as=str(content["stored_as"]),
                lowest=float(content["lowest"]),
                highest=float(content["highest"]),
                mean=_optional_number(content.get("mean")),
                deviation=_optional_number(content.get("deviation")),
                table=_optional_table(content.get("table")),
            )
            check_class_names(facts.class_names, "class names")
        except (
            LookupError,
            TypeError,
            AttributeError,
            ArithmeticError,
            RecursionError,
            DataError,
        ) as error:
            raise ValueError(f"these bytes are no facts of samples: {error}") from error
        if facts.to_private_bytes() != stored:
            raise ValueError("these bytes are no facts of samples as they are written")
        return facts


def observe_input(
    class_names: tuple[str, ...], train: Split, table: TableMapping | None = None
) -> InputFacts:
    """Return the facts of the training samples; floating-point ones are read once."""
    moments = NumberMoments()
    # Spread over the whole split: files are often sorted by class.
    spread = np.unique(np.linspace(0, len(train) - 1, min(len(train), _MOST_ROWS)).astype(np.int64))
    for start in range(0, len(spread), 256):
        moments.add_numbers(train.read(spread[start : start + 256]))
    found = moments.mean, moments.deviation
    if train.dtype == np.uint8:
        return InputFacts(class_names, "uint8", 0.0, 1.0, *found, table)
    lowest, highest = np.inf, -np.inf
    for start in range(0, len(train), _BLOCK):
        rows = train.read(np.arange(start, min(start + _BLOCK, len(train))))
        lowest, highest = min(lowest, float(rows.min())), max(highest, float(rows.max()))
    return InputFacts(class_names, str(train.dtype), lowest, highest, *found, table)


def _optional_table(stored: object) -> TableMapping | None:
    return None if stored is None else TableMapping.from_json(str(stored), "table")


def _optional_number(stored: object) -> float | None:
    if stored is None:
        return None
    number = float(stored)  # type: ignore[arg-type]
    if not math.isfinite(number):
        raise TypeError("a figure is no number")
    return number
