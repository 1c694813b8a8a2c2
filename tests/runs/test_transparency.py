"""N ranks compute what one process computes, to the bit: losses of every step and all weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mpirun import mpirun
from replay import delivered, replay

from clicooper_hpc.runstore.reader import Run, open_run

pytestmark = pytest.mark.mpi

#: 150 samples in batches of 32 rows: 4 full batches and one of 22; 5 micro-batches of 7, 7, 7, 7, 4
#: rows, and of 5, 5, 5, 5, 2 in the last batch: nothing is even.
JOB = """
[data]
path = "digits"
train_rows = 150
test_rows = 50
[privacy]
epsilon = 50.0
[labels]
expansion = 2
[model]
name = "{model}"
options = {options}
[pipeline]
micro_batches = 5
coupling = "{coupling}"
schedule = "{schedule}"
[training]
epochs = 2
batch_size = 32
average_rows = {average}
learning_rate = 0.05
label_smoothing = 0.1
warmup_steps = 2
{extra}
[output]
record_wire = true
"""
MLP = ("mlp", "{ widths = [24, 24, 24], dropout = 0.2 }")
#: No nn.Sequential: two tensors cross most of its cuts, and a layer drops as its mode says.
SKIPS = """
import math
import torch
from torch import nn
class Skips(nn.Module):
    def __init__(self, width, outputs):
        super().__init__()
        self.first, self.second = nn.Linear(width, 24), nn.Linear(24, 24)
        self.third, self.last = nn.Linear(24, 24), nn.Linear(24, outputs)
        self.relu = nn.ReLU(inplace=True)
    def forward(self, rows):
        inner = self.relu(self.first(rows.view(rows.size(0), -1)))
        outer = nn.functional.dropout(self.relu(self.second(inner)), 0.2, self.training)
        outer = self.third(outer)
        outer += inner
        return self.last(self.relu(outer) * inner)
def build(*, input_shape, outputs): return Skips(math.prod(input_shape), outputs)
"""
TRACED = ("skips:build", '{}\ncuts = "any"')
VGG = ("vgg", "{ channels = [8, 16] }")


def run(
    folder: Path,
    ranks: int,
    network: tuple[str, str],
    *,
    coupling: str = "backprop",
    schedule: str = "1f1b",
    average: int = 1,
    extra: str = "",
) -> Run:
    job = folder / "job.toml"
    job.write_text(
        JOB.format(
            model=network[0],
            options=network[1],
            coupling=coupling,
            schedule=schedule,
            average=average,
            extra=extra,
        )
    )
    args = ["-m", "clicooper_hpc", "run", str(job), "-o", str(folder / "run")]
    done = mpirun(ranks, args)
    assert done.returncode == 0, done.stderr
    return open_run(folder / "run")


def assert_same(result: Run, *, cuts: list[int] | None = None) -> None:
    again = replay(result, samples=150, outputs=20, cuts=cuts)
    last = result.ranks[-1]
    assert result.table("training", rank=last)["loss"].tolist() == again.losses
    weights = delivered(result)
    assert len(weights) == len(again.weights)
    for mine, theirs in zip(weights, again.weights, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    ("schedule", "ranks"),
    [
        ("1f1b", 3),
        *(
            pytest.param(*cell, marks=pytest.mark.matrix)
            for cell in (("gpipe", 5), ("1f1b", 2), ("1f1b", 5), ("gpipe", 2), ("gpipe", 3))
        ),
    ],
)
def test_backprop_is_one_process_to_the_bit(tmp_path: Path, ranks: int, schedule: str) -> None:
    extra = "clip_norm = 0.5" if schedule == "1f1b" else ""
    assert_same(run(tmp_path, ranks, MLP, schedule=schedule, extra=extra))


@pytest.mark.matrix
@pytest.mark.parametrize("ranks", [3, 5])
def test_backprop_of_a_convnet_is_one_process_to_the_bit(tmp_path: Path, ranks: int) -> None:
    assert_same(run(tmp_path, ranks, VGG))


@pytest.mark.matrix
def test_averaged_rows_are_one_process_to_the_bit(tmp_path: Path) -> None:
    assert_same(run(tmp_path, 3, MLP, average=4))


@pytest.mark.parametrize("ranks", [3, *(pytest.param(n, marks=pytest.mark.matrix) for n in (2, 5))])
def test_one_way_is_its_parts_in_one_process_to_the_bit(tmp_path: Path, ranks: int) -> None:
    result = run(tmp_path, ranks, MLP, coupling="one-way", extra="clip_norm = 0.5")
    assert_same(result, cuts=list(result.pipeline["cuts"][1:]))


@pytest.mark.parametrize("ranks", [4, *(pytest.param(n, marks=pytest.mark.matrix) for n in (2, 3))])
def test_a_traced_network_is_one_process_to_the_bit(tmp_path: Path, ranks: int) -> None:
    (tmp_path / "skips.py").write_text(SKIPS)
    assert_same(run(tmp_path, ranks, TRACED))
