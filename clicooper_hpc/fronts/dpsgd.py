"""A front trained on the owner's private data with DP-SGD (Abadi et al. 2016, arXiv 1607.00133).

Opacus gives the per-sample gradients, the clipping and the PRV accountant (Gopi, Lee, Wutschitz
2021, arXiv 2106.02848); sampling and noise are drawn here from ChaCha20 keyed by the operating
system. Opacus' own ``secure_mode`` needs torchcsprng, which is unmaintained, so it is off; and its
default noise comes from torch's CPU generator, which keeps only 32 bits of a seed: whoever tries
all of them removes the noise. Noise is rounded to float32, which ``secure_mode`` would also guard
against; here the noisy weights never leave the owner, who sends noised outputs of them only.

**Relation.** Target and result are the accountant's: adding or removing one sample. Under
replace-one, the relation of a release, the same training costs (2e, d (1 + exp e)); the privacy
ledger restates it so before it adds the two. The number of samples is taken as public.
"""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray
from opacus.accountants import PRVAccountant
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from scipy.special import ndtri
from torch import nn

from clicooper_hpc.errors import DataError, UsageError
from clicooper_hpc.fronts.dpsgd_noise import DpSgdNoise, solve_dpsgd_noise
from clicooper_hpc.fronts.dpsgd_settings import DpSgdSettings, PrivateRows, default_dpsgd_layers
from clicooper_hpc.fronts.layer_spec import build_layers, trace_layer_shapes
from clicooper_hpc.fronts.network import Network

__all__ = [
    "DpSgdCost",
    "DpSgdRandom",
    "train_dpsgd_front",
]

_MEAN, _STD = 0.5, 0.25  # constants: statistics of private rows would cost privacy


@dataclass(frozen=True, slots=True)
class DpSgdCost:
    """What a training cost under add-remove, and with how much noise."""

    epsilon: float
    delta: float
    noise_multiplier: float
    steps: int
    sample_rate: float


class DpSgdRandom:
    """Uniform and Gaussian numbers from ChaCha20 under a fresh key of the operating system."""

    def __init__(self) -> None:
        # Not from the master key and never again the same: a front is stored, so its noise need not
        # be repeated.
        self._stream = Cipher(ChaCha20(os.urandom(32), bytes(16)), mode=None).encryptor()

    def uniform(self, size: int) -> NDArray[np.float64]:
        """Return ``size`` numbers strictly between 0 and 1, on a grid of 2**-53."""
        # 52 bits and a half step: never 0 or 1, where the inverse of the Gaussian is infinite.
        words = np.frombuffer(self._stream.update(bytes(8 * size)), dtype="<u8") >> np.uint64(12)
        uniform: NDArray[np.float64] = (words.astype(np.float64) + 0.5) * 2.0**-52
        return uniform

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Return standard Gaussian numbers by inversion, rounded to float32."""
        values = ndtri(self.uniform(math.prod(shape))).astype(np.float32)
        return torch.from_numpy(values.reshape(shape))


class _OsNoiseOptimizer(DPOptimizer):  # type: ignore[misc]
    """Opacus' optimizer with the noise of `DpSgdRandom`."""

    source: DpSgdRandom

    def add_noise(self) -> None:
        """Set every gradient to clipped sum plus noise; see `DPOptimizer.add_noise`."""
        std = self.noise_multiplier * self.max_grad_norm
        for parameter in self.params:
            total = parameter.summed_grad
            parameter.grad = (total + std * self.source.normal(tuple(total.shape))).view_as(
                parameter
            )


def _check_rows(private: PrivateRows) -> None:
    labels = private.labels
    if len(labels) != len(private.rows) or len(labels) == 0:
        raise DataError("the private rows and labels differ in number", where="front.dp_sgd")
    # The number of classes is given, not read off the labels: that would be a query of its own.
    if labels.ndim != 1 or labels.min() < 0 or labels.max() >= private.classes:
        raise DataError(f"labels must lie in [0, {private.classes})", where="front.dp_sgd")


def _fit(
    network: nn.Module,
    private: PrivateRows,
    settings: DpSgdSettings,
    solved: DpSgdNoise,
) -> PRVAccountant:
    """Train ``network`` in place; return the accountant that saw every step."""
    rate = solved.sample_rate
    module = GradSampleModule(network)
    sgd = torch.optim.SGD(module.parameters(), lr=settings.learning_rate, momentum=0.9)
    optimizer = _OsNoiseOptimizer(
        sgd,
        noise_multiplier=solved.noise_multiplier,
        max_grad_norm=settings.clip_norm,
        expected_batch_size=settings.batch_rows,
    )
    optimizer.source = source = DpSgdRandom()
    accountant = PRVAccountant()
    optimizer.attach_step_hook(accountant.get_optimizer_hook_fn(sample_rate=rate))
    rows = ((private.rows - np.float32(_MEAN)) / np.float32(_STD)).astype(np.float32)
    labels = private.labels.astype(np.int64)
    for _ in range(solved.steps):
        # The accountant counts Poisson samples; batches of a fixed size would cost more than it
        # says.
        chosen = np.flatnonzero(source.uniform(len(rows)) < rate)  # Poisson: each row by itself
        optimizer.zero_grad()
        if len(chosen):
            output = module(torch.from_numpy(rows[chosen]))
            nn.functional.cross_entropy(output, torch.from_numpy(labels[chosen])).backward()  # type: ignore[no-untyped-call]
        else:  # an empty batch is a step all the same: noise alone
            for parameter in module.parameters():
                parameter.grad_sample = torch.zeros((0, *parameter.shape))
        optimizer.step()
    module.remove_hooks()
    return accountant


def train_dpsgd_front(
    private: PrivateRows,
    settings: DpSgdSettings,
    *,
    input_shape: tuple[int, ...],
    dim: int,
    seed: int,
) -> tuple[Network, DpSgdCost]:
    """Train a front with a linear head on the private train split, and drop the head.

    ``seed`` sets the starting weights only. Training twice costs twice: keep the front
    (`Front.front_tensors`) and use `restore_front` on resume.

    Raises
    ------
    UsageError
        If the batch is larger than the data, the accountant cannot state the target, or the layers
        do not end in a vector.
    """
    _check_rows(private)
    rows = len(private.rows)
    solved = solve_dpsgd_noise(settings, rows)
    layers = settings.layers or default_dpsgd_layers(input_shape, dim)
    shape = trace_layer_shapes(layers, input_shape, where="front.dp_sgd.layers")[-1]
    if len(shape) != 1:
        raise UsageError(
            f"the layers end in shape {shape}, not in a vector", where="front.dp_sgd.layers"
        )
    # Starting weights come from the seed; torch's generator is left as it was found.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = build_layers(layers)
        head = nn.Linear(shape[0], private.classes)
    network = nn.Sequential(body, head).train().requires_grad_(True)
    with warnings.catch_warnings():
        # The accountants warn of orders and logarithms they treat rightly, torch of a first layer
        # whose input needs no gradient.
        warnings.simplefilter("ignore")
        accountant = _fit(network, private, settings, solved)
        # What the steps really cost, as counted, not what was aimed at.
        epsilon = float(accountant.get_epsilon(settings.delta))
    weights = {name: tensor.detach().clone() for name, tensor in body.state_dict().items()}
    noise, rate, steps = solved.noise_multiplier, solved.sample_rate, solved.steps
    cost = DpSgdCost(epsilon, settings.delta, noise, steps, rate)
    return Network(layers, input_shape, (_MEAN,), (_STD,), weights), cost
