"""What the owner keeps of the samples a run was trained on, so that the model can be used later.

Names of the classes, and the range of the numbers. They are kept in ``private/``: whoever uses the
model needs no training data, and nobody else learns a name.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np

from clicooper_hpc.data.class_labels import check_class_names
from clicooper_hpc.data.split import Split
from clicooper_hpc.errors import DataError

__all__ = ["InputFacts", "observe_input"]

_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class InputFacts:
    """Class names in order; dtype of the samples as stored; least and largest number as read.

    Samples stored as uint8 are read as float32 in [0, 1] (`Split.read`).
    """

    class_names: tuple[str, ...]
    stored_as: str
    lowest: float
    highest: float

    def to_private_bytes(self) -> bytes:
        """Return the facts as JSON, for a `PrivateFolder`."""
        return json.dumps(asdict(self), allow_nan=False).encode()

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


def observe_input(class_names: tuple[str, ...], train: Split) -> InputFacts:
    """Return the facts of the training samples; floating-point ones are read once."""
    if train.dtype == np.uint8:
        return InputFacts(class_names, "uint8", 0.0, 1.0)
    lowest, highest = np.inf, -np.inf
    for start in range(0, len(train), _BLOCK):
        rows = train.read(np.arange(start, min(start + _BLOCK, len(train))))
        lowest, highest = min(lowest, float(rows.min())), max(highest, float(rows.max()))
    return InputFacts(class_names, str(train.dtype), lowest, highest)
