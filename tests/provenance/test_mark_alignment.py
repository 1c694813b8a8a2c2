"""Marks are read again after transforms that leave the network's function alone."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from mark_cases import arrays_of, digits, network, shapes_of, train
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from clicooper_hpc.provenance.marks.carriers import Carriers, draw_carriers
from clicooper_hpc.provenance.marks.channel_alignment import align_channels
from clicooper_hpc.provenance.marks.embedder import Embedder
from clicooper_hpc.provenance.marks.mark_plan import MarkPlan, plan_mark
from clicooper_hpc.provenance.marks.pairing import pair_tensors
from clicooper_hpc.provenance.marks.reading import MarkReading, read_mark

Floats = NDArray[np.floating[Any]]
Mark = tuple[MarkPlan, Carriers]


def mark(module: nn.Module) -> Mark:
    shapes = shapes_of(module)
    plan = plan_mark(shapes, distortion=0.01)
    carriers = draw_carriers(plan, shapes, hashlib.sha512(b"align").digest())
    Embedder(dict(module.named_parameters()), plan, carriers).embed()
    return plan, carriers


def read(
    suspect: Mapping[str, Floats], reference: Mapping[str, Floats], given: Mark
) -> MarkReading:
    return read_mark(align_channels(suspect, reference), *given)


def drifted(arrays: Mapping[str, Floats], size: float) -> dict[str, Floats]:
    """Add noise of ``size`` times the norm of every tensor."""
    generator = np.random.default_rng(5)
    return {k: v + size * v.std() * generator.normal(size=v.shape) for k, v in arrays.items()}


# A plain network: ReLU without normalisation lets channels be moved and scaled at will. ----------


class Plain(nn.Sequential):
    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        super().__init__(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, 24, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(24, 48, 3, stride=4, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(192, 300),
            nn.ReLU(),
            nn.Linear(300, 10),
        )


@pytest.fixture(scope="module")
def plain() -> tuple[Plain, Mark]:
    module = Plain(0)
    train(module, 60)
    return module, mark(module)


def moved(module: Plain, *, scaled: bool) -> Plain:
    """Permute, and scale, the channels of all three inner layers."""
    module = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for layer, following in ((1, 3), (3, 6), (6, 8)):
            parameters = [module.get_parameter(f"{layer}.{end}") for end in ("weight", "bias")]
            count = len(parameters[0])
            order = torch.randperm(count, generator=generator)
            scale = torch.exp(torch.randn(count, generator=generator)) if scaled else 1.0
            scale = torch.as_tensor(scale).expand(count)
            for value in parameters:
                value.copy_(value[order] * scale.view(-1, *[1] * (value.ndim - 1)))
            weight = module.get_parameter(f"{following}.weight")
            blocks = weight.view(len(weight), count, -1)
            blocks.copy_(blocks[:, order] / scale.view(1, -1, 1))
    return module


@pytest.mark.parametrize("scaled", [False, True])
def test_permuted_and_scaled_channels_are_put_back(
    plain: tuple[Plain, Mark], *, scaled: bool
) -> None:
    module, given = plain
    suspect = moved(module, scaled=scaled)
    rows, _ = digits("test")
    assert torch.allclose(module(rows), suspect(rows), atol=1e-3)
    straight = read_mark(arrays_of(module), *given)
    assert read_mark(arrays_of(suspect), *given).log2_p > -16
    again = read(arrays_of(suspect), arrays_of(module), given)
    assert again.errors == 0
    assert again.statistic == pytest.approx(straight.statistic, rel=1e-3)


def test_drifted_and_permuted_channels_are_put_back(plain: tuple[Plain, Mark]) -> None:
    module, given = plain
    suspect = drifted(arrays_of(moved(module, scaled=False)), 0.5)
    straight = read_mark(drifted(arrays_of(module), 0.5), *given)
    again = read(suspect, arrays_of(module), given)
    assert again.statistic > 0.85 * straight.statistic
    assert again.log2_p < -64


def test_an_untouched_network_stays_as_it_is(plain: tuple[Plain, Mark]) -> None:
    module, _ = plain
    arrays = arrays_of(module)
    aligned = align_channels(arrays, arrays)
    assert set(aligned) == {"1.weight", "3.weight", "6.weight", "8.weight"}
    for name, array in aligned.items():
        assert np.allclose(array, arrays[name], atol=1e-12)


def test_added_copied_and_removed_channels_are_tolerated(plain: tuple[Plain, Mark]) -> None:
    """Dummy neurons with output weight 0, neurons split in two uneven halves, a few cut off."""
    module, given = plain
    arrays = arrays_of(moved(module, scaled=True))
    generator = np.random.default_rng(7)
    inner, outer = arrays["6.weight"], arrays["8.weight"]
    dummies = generator.normal(size=(30, 192)) * inner.std()
    # Neuron 0..39 twice: outgoing weights 2c and -c in place of c.
    inner = np.concatenate((inner[:-5], inner[:40] * 3.0, dummies))
    outer = np.concatenate(
        (2.0 * outer[:, :40], outer[:, 40:-5], -outer[:, :40] / 3.0, np.zeros((10, 30))), axis=1
    )
    order = generator.permutation(len(inner))
    suspect = {**arrays, "6.weight": inner[order], "8.weight": outer[:, order]}
    aligned = align_channels(suspect, arrays_of(module))
    straight = read_mark(arrays_of(module), *given)
    assert read_mark(aligned, *given).statistic > 0.9 * straight.statistic
    wanted = arrays_of(module)["8.weight"]
    cosine = (aligned["8.weight"] * wanted).sum() / np.linalg.norm(wanted)
    assert cosine / np.linalg.norm(aligned["8.weight"]) > 0.95


def test_renamed_missing_and_extra_tensors_are_found_by_shape_and_order(
    plain: tuple[Plain, Mark],
) -> None:
    module, given = plain
    arrays = arrays_of(moved(module, scaled=False))
    # As after taking activations out of the Sequential; an adapter was added in front.
    renamed: dict[str, Floats] = {
        "10.weight": arrays["6.weight"],
        "9.weight": arrays["3.weight"],
        "2.weight": arrays["1.weight"],
        "2.bias": arrays["1.bias"],
        "1.weight": np.ones((64, 64), np.float32),
        "11.weight": arrays["8.weight"],
    }
    reference = arrays_of(module)
    assert pair_tensors(renamed, reference) == {
        "1.weight": "2.weight",
        "3.weight": "9.weight",
        "6.weight": "10.weight",
        "8.weight": "11.weight",
    }
    assert read(renamed, reference, given).errors == 0
    del renamed["9.weight"]
    aligned = align_channels(renamed, reference)
    assert not np.any(aligned["3.weight"])
    assert align_channels({}, reference).keys() == aligned.keys()
    assert read_mark(align_channels({}, reference), *given).log2_p == 0


def test_damaged_values_do_not_stop_alignment(plain: tuple[Plain, Mark]) -> None:
    module, given = plain
    arrays = arrays_of(moved(module, scaled=False))
    arrays["6.weight"][3, 5] = np.nan
    arrays["3.weight"][2] = np.inf
    assert read(arrays, arrays_of(module), given).log2_p < -64


# A residual network: one order shared by all blocks; normalisation that can be folded away. ------


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.stem = nn.Conv2d(4, 40, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(40)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "conv1": nn.Conv2d(40, 56, 3, padding=1, bias=False),
                    "norm1": nn.BatchNorm2d(56),
                    "conv2": nn.Conv2d(56, 40, 3, padding=1, bias=False),
                    "norm2": nn.BatchNorm2d(40),
                }
            )
            for _ in range(3)
        )
        self.head = nn.Linear(40, 10)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                # Weights of either sign, as trained networks have.
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias, std=0.1)

    def forward(self, rows: Tensor) -> Tensor:
        rows = functional.relu(self.norm(self.stem(rows)))
        for block in self.blocks:
            assert isinstance(block, nn.ModuleDict)
            inner = functional.relu(block["norm1"](block["conv1"](rows)))
            rows = functional.relu(block["norm2"](block["conv2"](inner)) + rows)
        return self.head(rows.mean((2, 3)))  # type: ignore[no-any-return]


NORMS = ("weight", "bias", "running_mean", "running_var")


def permuted(arrays: Mapping[str, Floats]) -> dict[str, Floats]:
    generator = np.random.default_rng(2)
    stream = generator.permutation(40)
    new = dict(arrays)

    def outputs(names: list[str], order: NDArray[np.int64]) -> None:
        for name in names:
            new[name] = new[name][order]

    outputs(["stem.weight", *(f"norm.{end}" for end in NORMS)], stream)
    for block in range(3):
        inner = generator.permutation(56)
        path = f"blocks.{block}"
        outputs([f"{path}.conv1.weight", *(f"{path}.norm1.{end}" for end in NORMS)], inner)
        outputs([f"{path}.conv2.weight", *(f"{path}.norm2.{end}" for end in NORMS)], stream)
        new[f"{path}.conv1.weight"] = new[f"{path}.conv1.weight"][:, stream]
        new[f"{path}.conv2.weight"] = new[f"{path}.conv2.weight"][:, inner]
    new["head.weight"] = new["head.weight"][:, stream]
    return new


def folded(arrays: Mapping[str, Floats]) -> dict[str, Floats]:
    """Fold normalisation into kernels: scaled and, where its weight is negative, flipped."""
    new = {"head.weight": arrays["head.weight"]}
    norm_of = {"stem": "norm"}
    for block in range(3):
        for layer in (1, 2):
            norm_of[f"blocks.{block}.conv{layer}"] = f"blocks.{block}.norm{layer}"
    for kernel, norm in norm_of.items():
        scale = arrays[f"{norm}.weight"] / np.sqrt(arrays[f"{norm}.running_var"] + 1e-5)
        new[f"{kernel}.weight"] = arrays[f"{kernel}.weight"] * scale[:, None, None, None]
        new[f"{kernel}.bias"] = arrays[f"{norm}.bias"] - arrays[f"{norm}.running_mean"] * scale
    return new


@pytest.fixture(scope="module")
def residual() -> tuple[Residual, Mark]:
    module = Residual()
    with torch.no_grad():
        for _ in range(20):
            module(torch.randn(32, 4, 8, 8))
    given = mark(module)
    return module.eval(), given


def test_residual_networks_are_put_back(residual: tuple[Residual, Mark]) -> None:
    module, given = residual
    reference = arrays_of(module)
    suspect = permuted(reference)
    other = Residual().eval()
    other.load_state_dict({k: torch.from_numpy(np.asarray(v)) for k, v in suspect.items()})
    rows = torch.randn(8, 4, 8, 8)
    assert torch.allclose(module(rows), other(rows), atol=1e-4)
    assert read_mark(suspect, *given).log2_p > -16
    again = read(suspect, reference, given)
    assert again.errors == 0
    assert again.statistic == pytest.approx(read_mark(reference, *given).statistic, rel=1e-3)
    assert read(drifted(suspect, 0.5), reference, given).log2_p < -64


def test_folded_normalisation_is_undone(residual: tuple[Residual, Mark]) -> None:
    module, given = residual
    reference = arrays_of(module)
    suspect = folded(permuted(reference))
    assert read_mark(folded(reference), *given).statistic < 0.5 * given[0].least_statistic
    again = read(suspect, reference, given)
    assert again.errors == 0
    assert again.statistic == pytest.approx(read_mark(reference, *given).statistic, rel=1e-3)


# Nobody is accused by alignment. ------------------------------------------------------------------


def test_innocent_networks_gain_nothing_from_alignment() -> None:
    module = network(0)
    train(module, 60)
    given = mark(module)
    reference = arrays_of(module)
    statistics = []
    for seed in range(60):
        innocent = network(2000 + seed)
        train(innocent, 12, seed=seed)
        statistics.append(read(arrays_of(innocent), reference, given).statistic)
    assert stats.kstest(statistics, "norm").pvalue > 0.01
    assert max(abs(value) for value in statistics) < 5
