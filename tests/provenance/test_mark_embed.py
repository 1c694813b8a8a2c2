"""Marks in networks that train: put in, read back, kept."""

from __future__ import annotations

import copy
import hashlib
import math

import numpy as np
import pytest
import torch
from mark_cases import Arrays, accuracy, arrays_of, network, shapes_of, train, trained
from torch import nn

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.marks.carriers import Carriers, draw_carriers
from clicooper_hpc.provenance.marks.embedder import Embedder
from clicooper_hpc.provenance.marks.mark_keys import mark_key_seed, stage_mark_key
from clicooper_hpc.provenance.marks.mark_plan import MarkPlan, plan_mark
from clicooper_hpc.provenance.marks.reading import read_bit_statistics, read_mark


def seed_of(number: int) -> bytes:
    return mark_key_seed(stage_mark_key(bytes(32), number), hashlib.sha256(b"chain").digest())


def mark_of(module: nn.Module, number: int = 0) -> tuple[MarkPlan, Carriers]:
    shapes = shapes_of(module)
    plan = plan_mark(shapes)
    return plan, draw_carriers(plan, shapes, seed_of(number))


def test_every_margin_holds_and_the_distortion_is_the_planned_one() -> None:
    module = copy.deepcopy(trained())
    plan, carriers = mark_of(module)
    before = arrays_of(module)
    Embedder(dict(module.named_parameters()), plan, carriers).embed()
    after = arrays_of(module)
    assert read_bit_statistics(after, plan, carriers).min() >= plan.tau
    reading = read_mark(after, plan, carriers)
    assert reading.errors == 0
    assert reading.ber == 0
    assert reading.statistic >= plan.least_statistic * 0.98
    assert reading.log2_p < -128
    moved = sum(float(((after[k] - before[k]) ** 2).sum()) for k in before)
    energy = sum(float((before[k] ** 2).sum()) for k in plan.eligible)
    # Weights of a trained network are uneven and bits start anywhere about zero.
    assert moved / energy < 1.5 * 0.004
    assert abs(accuracy(module) - accuracy(trained())) < 0.02


def test_only_carriers_move_and_each_along_its_sign() -> None:
    module = copy.deepcopy(trained())
    plan, carriers = mark_of(module)
    before = arrays_of(module)
    Embedder(dict(module.named_parameters()), plan, carriers).embed()
    after = arrays_of(module)
    changed = 0
    for name, array in after.items():
        if array.ndim < 2:
            assert np.array_equal(array, before[name])
            continue
        assert np.array_equal(array[:, 1::2], before[name][:, 1::2])
        changed += int(np.count_nonzero(array != before[name]))
    assert 0 < changed <= carriers.index.size
    signs = carriers.sign.ravel()[np.argsort(carriers.index.ravel())]
    even = [(after[k] - before[k])[:, ::2].ravel() for k in plan.eligible]
    moves = np.concatenate(even)[np.sort(carriers.index.ravel())]
    assert np.all(moves * signs >= 0)


def test_embedding_again_changes_nothing() -> None:
    module = copy.deepcopy(trained())
    plan, carriers = mark_of(module)
    embedder = Embedder(dict(module.named_parameters()), plan, carriers)
    embedder.embed()
    once = arrays_of(module)
    embedder.embed()
    for name, array in arrays_of(module).items():
        assert np.allclose(array, once[name], rtol=0, atol=1e-7)


def test_embedding_is_deterministic() -> None:
    results = []
    for _ in range(2):
        module = copy.deepcopy(trained())
        plan, carriers = mark_of(module)
        Embedder(dict(module.named_parameters()), plan, carriers).embed()
        results.append(arrays_of(module))
    for name, array in results[0].items():
        assert array.tobytes() == results[1][name].tobytes()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_types_hold_the_margin_too(dtype: torch.dtype) -> None:
    module = copy.deepcopy(trained()).to(dtype)
    plan, carriers = mark_of(module)
    Embedder(dict(module.named_parameters()), plan, carriers).embed()
    read = {k: v.detach().float().numpy() for k, v in module.named_parameters()}
    assert read_bit_statistics(read, plan, carriers).min() >= plan.tau


def test_channels_last_kernels_are_marked_alike() -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(64, 96, 3)
    other = copy.deepcopy(plain).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert not other.weight.is_contiguous()
    plan, carriers = mark_of(plain)
    for module in (plain, other):
        Embedder(dict(module.named_parameters()), plan, carriers).embed()
    assert torch.equal(plain.weight, other.weight)
    assert read_bit_statistics(arrays_of(plain), plan, carriers).min() >= plan.tau


def test_zero_weights_and_dead_channels_still_take_the_mark() -> None:
    module = copy.deepcopy(trained())
    plan, carriers = mark_of(module)
    with torch.no_grad():
        module.get_parameter("3.weight")[::4] = 0.0
        module.get_parameter("0.weight")[:, ::2] = 0.0
    Embedder(dict(module.named_parameters()), plan, carriers).embed()
    after = arrays_of(module)
    assert not np.any(after["3.weight"][::4])
    assert read_bit_statistics(after, plan, carriers).min() >= plan.tau


def test_weights_that_are_not_finite_do_not_spread_and_can_be_read() -> None:
    module = copy.deepcopy(trained())
    plan, carriers = mark_of(module)
    with torch.no_grad():
        weight = module.get_parameter("3.weight")
        weight[0, 0], weight[1, 1], weight[2, 2] = math.inf, math.nan, -math.inf
    Embedder(dict(module.named_parameters()), plan, carriers).embed()
    after = arrays_of(module)
    assert sum(int(np.count_nonzero(~np.isfinite(v))) for v in after.values()) == 3
    reading = read_mark(after, plan, carriers)
    assert reading.errors == 0
    assert math.isfinite(reading.statistic)


def test_scaled_and_huge_channels_read_the_same() -> None:
    module = copy.deepcopy(trained())
    plan, carriers = mark_of(module)
    Embedder(dict(module.named_parameters()), plan, carriers).embed()
    after = {k: v.astype(np.float64) for k, v in arrays_of(module).items()}
    scales = np.exp(np.random.default_rng(0).normal(size=(224, 1)) * 3)
    scaled = {k: v * scales if k in ("0.weight", "3.weight") else v for k, v in after.items()}
    huge = {k: v * 1e200 for k, v in after.items()}
    expected = read_mark(after, plan, carriers).statistic
    assert read_mark(scaled, plan, carriers).statistic == pytest.approx(expected, rel=1e-9)
    assert read_mark(huge, plan, carriers).statistic == pytest.approx(expected, rel=1e-9)


def test_training_and_five_stages_leave_all_five_marks_readable() -> None:
    """Every tenth update as in a run; each stage has its own key; earlier marks are not renewed."""
    module, unmarked = network(1), network(1)
    shapes = shapes_of(module)
    plan = plan_mark(shapes)
    marks = [draw_carriers(plan, shapes, seed_of(stage)) for stage in range(5)]
    after_stage: list[Arrays] = []
    for stage, carriers in enumerate(marks):
        embedder = Embedder(dict(module.named_parameters()), plan, carriers)

        def embed(step: int, embedder: Embedder = embedder) -> None:
            if step % 10 == 9:
                embedder.embed()

        train(module, 60, seed=stage, after_update=embed)
        train(unmarked, 60, seed=stage)
        after_stage.append(arrays_of(module))
    for carriers, weights in zip(marks, after_stage, strict=True):
        assert read_mark(weights, plan, carriers).errors == 0
    readings = [read_mark(after_stage[-1], plan, carriers) for carriers in marks]
    assert [reading.errors for reading in readings] == [0] * 5
    assert all(reading.log2_p < -64 for reading in readings)
    # The first mark has been trained over for four stages.
    assert readings[-1].statistic > readings[0].statistic
    # Not there before its stage.
    assert read_mark(after_stage[0], plan, marks[4]).log2_p > -16
    assert accuracy(module) > 0.9
    assert abs(accuracy(module) - accuracy(unmarked)) < 0.02


def test_other_parameters_than_drawn_for_are_refused() -> None:
    module = copy.deepcopy(trained())
    plan, carriers = mark_of(module)
    with pytest.raises(ValueError, match=r"0\.weight"):
        Embedder({}, plan, carriers)
    arrays = arrays_of(module)
    with pytest.raises(EvidenceError, match=r"'3\.weight' is missing.*Align"):
        read_mark({k: v for k, v in arrays.items() if k != "3.weight"}, plan, carriers)
    arrays["3.weight"] = arrays["3.weight"][:-1]
    with pytest.raises(EvidenceError, match=r"has shape \(223, 224\)"):
        read_mark(arrays, plan, carriers)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_embedding_on_cuda_equals_the_host_up_to_rounding() -> None:
    host, device = copy.deepcopy(trained()), copy.deepcopy(trained()).cuda()
    plan, carriers = mark_of(host)
    for module in (host, device):
        Embedder(dict(module.named_parameters()), plan, carriers).embed()
    read = arrays_of(device.cpu())
    assert read_bit_statistics(read, plan, carriers).min() >= plan.tau
    for name, array in arrays_of(host).items():
        assert np.allclose(array, read[name], rtol=1e-5, atol=1e-7)
