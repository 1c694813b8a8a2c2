"""Which device a rank computes on."""

from __future__ import annotations

import torch

from clicooper_hpc.errors import EnvironmentUnfitError

__all__ = ["choose_device"]


def choose_device(wish: str, local_rank: int) -> torch.device:
    """Return the device for ``wish`` ("auto", "cpu" or "cuda") on local rank ``local_rank``.

    Ranks of one node share its GPUs round-robin: several segments may sit on one GPU.
    """
    if wish == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        # Only "auto" may fall back: who asked for a GPU must not train on the CPU for hours unseen.
        if wish == "cuda":
            raise EnvironmentUnfitError(
                "no CUDA device is visible to this rank",
                where='pipeline.device = "cuda"',
                remedy="Ask the scheduler for GPUs, or use --set pipeline.device=cpu",
            )
        return torch.device("cpu")
    return torch.device("cuda", local_rank % count)
