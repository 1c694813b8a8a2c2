"""Where attacks compute."""

from __future__ import annotations

import torch

__all__ = ["attack_device"]


def attack_device() -> torch.device:
    """Return the GPU this rank was given (`torch.cuda.set_device`), or the CPU without one."""
    # Where ranks share a node each was given a GPU before: "cuda" is that one.
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
