"""Initial weights as a function of (seed, parameter name), the same bits on every machine.

``torch``'s own generator is not used: its numbers differ in the last bits between processors
(AVX2 or not), and depend on what was drawn before. Here every parameter has its own Philox4x32
counter stream (Salmon et al. 2011), so owner, trainers and auditors get equal bits however the
network is cut and whoever builds it.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["set_initial_weights", "without_initial_weights"]


class without_initial_weights(TorchFunctionMode):  # noqa: N801
    """Context in which layers are made without random numbers, their weights left as memory is.

    Not the meta device: torch imports its symbolic mathematics to fill that, most of a second.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call ``function``, unless it fills a tensor with initial weights."""
        given = kwargs or {}
        if getattr(function, "__module__", None) == "torch.nn.init":
            return args[0] if args else given["tensor"]
        return function(*args, **given)


def set_initial_weights(
    model: nn.Module, seed: int, *, gain: float, purpose: str = "model"
) -> None:
    """Set all parameters of ``model`` (float32, on the CPU, possibly uninitialised memory).

    Tensors with two or more axes are uniform in [-b, b] with b = sqrt(3 gain / fan_in), that is
    variance gain / fan_in, where fan_in is the number of entries behind one index of axis 0;
    ``gain`` 2 suits layers followed by ReLU (He et al. 2015), 1 the others (LeCun et al. 1998).
    Biases are 0, the scales of normalisations 1.

    Raises
    ------
    ValueError
        ``seed`` outside [0, 2**64).
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed {seed} is outside [0, 2**64)")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # One axis: biases and scales of normalisations, which have fixed starts.
            if parameter.ndim >= 2:
                fan_in = parameter[0].numel()
                unit = _uniform(parameter, f"{purpose}/{name}", seed)
                # The factor is rounded to float32 first, so that the product is the same on every
                # processor.
                parameter.copy_(unit * np.float32(math.sqrt(3 * gain / fan_in)).item())
            else:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)


def _uniform(like: Tensor, name: str, seed: int) -> Tensor:
    """Return float32 numbers in (-1, 1), all odd multiples of 2**-24, shaped as ``like``."""
    # Keyed by name, not by order: a segment that is built alone has the weights it has in the
    # whole.
    key = hashlib.blake2b(
        struct.pack("<Q", seed) + name.encode(), digest_size=16, person=b"clicooper-init"
    ).digest()
    raw = np.random.Philox(key=np.frombuffer(key, dtype="<u8").astype(np.uint64)).random_raw(
        like.numel()
    )
    # 24 bits fill float32 exactly: no step up to here rounds.
    odd = 2 * (raw >> np.uint64(40)).astype(np.int64) + 1 - 2**24
    return torch.from_numpy((odd * 2.0**-24).astype(np.float32)).reshape(like.shape)
