"""A job that trains in a second: an owner and one trainer on the digits."""

from __future__ import annotations

from typing import Any

TINY: dict[str, Any] = {
    "data": {"path": "digits"},
    "front": {"kind": "dct", "dim": 8},
    "model": {"name": "mlp", "options": {"widths": [8]}},
    "pipeline": {"segments": 1, "micro_batches": 2},
    "provenance": {"enabled": False},
    "training": {"epochs": 2, "batch_size": 64},
}
