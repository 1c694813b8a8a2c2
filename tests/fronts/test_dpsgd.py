"""A front trained with DP-SGD stays within its target, learns, and keeps no other statistic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from opacus.accountants import PRVAccountant
from sklearn.datasets import load_digits

from clicooper_hpc.errors import DataError, UsageError
from clicooper_hpc.fronts.build_front import DpSgdTraining, FrontBase, build_front
from clicooper_hpc.fronts.dpsgd import DpSgdRandom, train_dpsgd_front
from clicooper_hpc.fronts.dpsgd_settings import DpSgdSettings, PrivateRows, default_dpsgd_layers
from clicooper_hpc.fronts.front import restore_front
from clicooper_hpc.fronts.layer_spec import parse_layers, trace_layer_shapes
from clicooper_hpc.fronts.weights import WeightsDescription


def private(count: int = 400) -> PrivateRows:
    x, y = load_digits(return_X_y=True)
    rows = (x[:count] / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    return PrivateRows(rows, y[:count].astype(np.int64), 10)


def test_the_reported_epsilon_is_within_the_target_and_is_the_accountants_own() -> None:
    settings = DpSgdSettings(epsilon=3.0, delta=1e-5, epochs=1, batch_rows=100)
    _, cost = train_dpsgd_front(private(), settings, input_shape=(1, 8, 8), dim=8, seed=0)
    assert 2.8 < cost.epsilon <= 3.0
    assert cost.delta == 1e-5
    assert (cost.steps, cost.sample_rate) == (4, 0.25)
    accountant = PRVAccountant()
    accountant.history = [(cost.noise_multiplier, 0.25, 4)]
    assert cost.epsilon == accountant.get_epsilon(1e-5)


@pytest.mark.slow
def test_a_dp_front_learns_and_is_restored_without_training_again() -> None:
    front = build_front(
        FrontBase(kind="dp-sgd", input_shape=(1, 8, 8), dim=16),
        training=DpSgdTraining(
            DpSgdSettings(epsilon=8.0, delta=1e-5, epochs=10, batch_rows=128, learning_rate=0.2),
            private(1200),
        ),
        normalise=1.0,
    )
    origin = front.origin
    assert origin.kind == "dp-sgd"
    assert not origin.conditional
    assert origin.epsilon is not None
    assert origin.epsilon <= 8.0
    everything = private(1797)
    rows = front.apply(everything.rows)
    means = np.stack([rows[:1200][everything.labels[:1200] == c].mean(0) for c in range(10)])
    found = (rows[1200:] @ means.T - (means**2).sum(1) / 2).argmax(1)
    assert (found == everything.labels[1200:]).mean() > 0.5  # chance 0.1
    again = restore_front(front.front_settings(), front.front_tensors())
    assert again == front
    assert again.origin.epsilon == origin.epsilon


def test_two_trainings_never_share_their_noise() -> None:
    settings = DpSgdSettings(epsilon=3.0, delta=1e-5, epochs=1, batch_rows=400)
    first, second = (
        train_dpsgd_front(private(), settings, input_shape=(1, 8, 8), dim=8, seed=0)[0]
        for _ in range(2)
    )
    # Same data, same starting weights, full batches: only the noise differs.
    assert not torch.equal(first.weights["0.weight"], second.weights["0.weight"])


def test_training_leaves_torchs_own_random_stream_alone() -> None:
    torch.manual_seed(1)
    want = torch.rand(3)
    torch.manual_seed(1)
    settings = DpSgdSettings(epsilon=3.0, delta=1e-5, epochs=1, batch_rows=400)
    train_dpsgd_front(private(), settings, input_shape=(1, 8, 8), dim=4, seed=0)
    assert torch.equal(torch.rand(3), want)


def test_empty_poisson_batches_are_steps_of_noise_alone() -> None:
    settings = DpSgdSettings(epsilon=3.0, delta=1e-5, epochs=4, batch_rows=1)
    network, cost = train_dpsgd_front(private(6), settings, input_shape=(1, 8, 8), dim=4, seed=0)
    assert cost.steps == 24  # each batch is empty with probability 0.33
    assert all(bool(torch.isfinite(tensor).all()) for tensor in network.weights.values())


def test_batch_normalisation_is_refused() -> None:
    layers = parse_layers(
        [
            {"type": "Conv2d", "in_channels": 1, "out_channels": 4, "kernel_size": 3},
            {"type": "BatchNorm2d", "num_features": 4},
            {"type": "Flatten"},
        ],
        where="test",
    )
    with pytest.raises(UsageError, match=r"BatchNorm.*GroupNorm"):
        DpSgdSettings(epsilon=1.0, delta=1e-5, layers=layers)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epsilon", 0.0),
        ("epsilon", 0.01),
        ("delta", 0.0),
        ("delta", 1.0),
        ("epochs", 0),
        ("batch_rows", 0),
        ("clip_norm", 0.0),
        ("learning_rate", -1.0),
    ],
)
def test_impossible_settings_are_refused(name: str, value: float) -> None:
    key = {"batch_rows": "batch_size", "clip_norm": "clip"}.get(name, name)
    with pytest.raises(UsageError, match=rf"front\.dp_sgd\.{key}: .*{value!r}"):
        DpSgdSettings(**{"epsilon": 2.0, "delta": 1e-5, name: value})  # type: ignore[arg-type]


def test_rows_labels_and_layers_must_fit() -> None:
    settings = DpSgdSettings(epsilon=3.0, delta=1e-5, batch_rows=500)
    with pytest.raises(UsageError, match="500 is more than the 400 private rows"):
        train_dpsgd_front(private(), settings, input_shape=(1, 8, 8), dim=4, seed=0)
    good = private(8)
    with pytest.raises(DataError, match="differ in number"):
        train_dpsgd_front(
            PrivateRows(good.rows, good.labels[:3], 10),
            settings,
            input_shape=(1, 8, 8),
            dim=4,
            seed=0,
        )
    with pytest.raises(DataError, match=r"labels must lie in \[0, 3\)"):
        train_dpsgd_front(
            PrivateRows(good.rows, good.labels, 3), settings, input_shape=(1, 8, 8), dim=4, seed=0
        )
    maps = parse_layers([{"type": "ReLU"}], where="test")
    with pytest.raises(UsageError, match="not in a vector"):
        train_dpsgd_front(
            good,
            DpSgdSettings(3.0, 1e-5, batch_rows=4, layers=maps),
            input_shape=(1, 8, 8),
            dim=4,
            seed=0,
        )
    with pytest.raises(UsageError, match=r"front\.dp_sgd"):
        build_front(FrontBase(kind="dp-sgd", input_shape=(1, 8, 8), dim=4))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (20,)])
def test_the_default_network_fits_every_row_shape(shape: tuple[int, ...]) -> None:
    layers = default_dpsgd_layers(shape, 16)
    assert trace_layer_shapes(layers, shape, where="test")[-1] == (16,)
    assert all(layer.type != "BatchNorm2d" for layer in layers)
    assert WeightsDescription(layers, shape, (0.5,), (1.0,), None).layers == layers


def test_os_noise_is_standard_gaussian_and_fresh() -> None:
    first, second = DpSgdRandom().normal((200_000,)), DpSgdRandom().normal((200_000,))
    for sample in (first, second):
        assert sample.dtype == torch.float32
        # Five standard errors of mean, variance and fourth moment.
        assert abs(float(sample.mean())) < 5 / 200_000**0.5
        assert abs(float(sample.var()) - 1) < 5 * (2 / 200_000) ** 0.5
        assert abs(float((sample.double() ** 4).mean()) - 3) < 5 * (96 / 200_000) ** 0.5
    assert abs(float((first * second).mean())) < 5 / 200_000**0.5


def test_os_uniforms_stay_inside_the_unit_interval() -> None:
    values = DpSgdRandom().uniform(100_000)
    assert 0 < values.min() < 1e-3
    assert 1 - 1e-3 < values.max() < 1
