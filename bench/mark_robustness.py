"""What a mark survives: ours against one trained in with a loss, on a network really trained.

python bench/mark_robustness.py [--epochs 30] [--width 64] [--out marks.png]

Trains three networks the same way (ours marked every tenth step and at the end,
Uchida's loss, none) on two thirds of the training rows, attacks each, and prints bit errors,
statistic, log2 of the chance of an accident, and accuracy. The attacker owns the last third of the
rows. Writes the table as JSON and a figure. Without a CIFAR-10 file (--data) it takes the digits.
``--data digits --width 16`` takes a few minutes on one core; the full size is meant for a GPU.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from mark_attacks import (
    Arrays,
    Data,
    Network,
    accuracy,
    disguised,
    folded,
    halved,
    pruned,
    quantised,
    train,
)
from torch import Tensor, nn
from uchida import UchidaMark

from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.provenance.marks.carriers import Carriers, draw_carriers
from clicooper_hpc.provenance.marks.channel_alignment import align_channels
from clicooper_hpc.provenance.marks.embedder import Embedder
from clicooper_hpc.provenance.marks.mark_plan import MarkPlan, plan_mark
from clicooper_hpc.provenance.marks.reading import read_mark

mpl.use("Agg")
from matplotlib import pyplot as plt

RATE = 0.05
FINE = RATE / 10
EVERY = 10
BITS = 128
OURS, LOSS = "ours", "Uchida"


@dataclass(frozen=True)
class Row:
    """One scheme after one attack; ``statistic`` is nan where the scheme has none."""

    attack: str
    scheme: str
    cosine: float
    accuracy: float
    ber: float
    statistic: float
    log2_p: float


class Ours:
    """Marks of this project under numbered keys."""

    name = OURS

    def __init__(self, network: Network, tau_factor: float = 1.0) -> None:
        self.shapes = network.shapes()
        plan = plan_mark(self.shapes)
        tau = math.floor(plan.tau * tau_factor * 1e6) / 1e6
        self.plan = MarkPlan(plan.bits, plan.weights_per_bit, tau, plan.eligible)

    def carriers(self, key: int) -> Carriers:
        return draw_carriers(self.plan, self.shapes, hashlib.sha512(str(key).encode()).digest())

    def embedder(self, network: Network, key: int) -> Embedder:
        parameters = dict(network.segment.named_parameters())
        return Embedder(parameters, self.plan, self.carriers(key))

    def train(self, network: Network, data: Data, epochs: int, seed: int) -> Network:
        embedder = self.embedder(network, 0)

        def embed(step: int) -> None:
            if step % EVERY == EVERY - 1:
                embedder.embed()

        train(network, data, epochs, rate=RATE, seed=seed, fall=True, after_update=embed)
        embedder.embed()
        return network

    def overwrite(self, network: Network, key: int, data: Data) -> Network:
        del data
        self.embedder(network, key).embed()
        return network

    def read(self, arrays: Arrays) -> tuple[float, float, float]:
        reading = read_mark(arrays, self.plan, self.carriers(0))
        return reading.ber, reading.statistic, reading.log2_p


class Uchida:
    """A mark trained into the last kernel: 128 bits, so that it can beat 2^-64."""

    name = LOSS

    def __init__(self, network: Network) -> None:
        self.kernel = network.last_kernel()
        self.shape = network.shapes()[self.kernel]
        self.mark = UchidaMark(self.shape, BITS, 0)

    def term(self, network: Network, mark: UchidaMark) -> Callable[[], Tensor]:
        kernel = network.segment.get_parameter(self.kernel)
        return lambda: mark.loss(kernel)

    def train(self, network: Network, data: Data, epochs: int, seed: int) -> Network:
        term = self.term(network, self.mark)
        return train(network, data, epochs, rate=RATE, seed=seed, fall=True, term=term)

    def overwrite(self, network: Network, key: int, data: Data) -> Network:
        """Train until the attacker's own mark reads without error, at most 20 epochs."""
        mark = UchidaMark(self.shape, BITS, key)
        for epoch in range(20):
            train(network, data, 1, rate=FINE, seed=epoch, term=self.term(network, mark))
            if mark.read(network.arrays()[self.kernel])[0] == 0:
                break
        return network

    def read(self, arrays: Arrays) -> tuple[float, float, float]:
        errors, log2_p = self.mark.read(arrays[self.kernel])
        return errors / BITS, math.nan, log2_p


Scheme = Ours | Uchida


def attacks(scheme: Scheme, given: Network, theirs: Data, tune: int) -> dict[str, Network]:
    """Return the attacked networks by the name of the attack."""

    def tuned(network: Network, factor: float) -> Network:
        return train(copy.deepcopy(network), theirs, tune, rate=FINE * factor, seed=77)

    found = {"none": given}
    found["fine-tune, rate x1"] = tuned(given, 1)
    found["fine-tune, rate x10"] = tuned(given, 10)
    for percent in (10, 25, 50, 75, 90, 95):
        found[f"prune {percent} %"] = pruned(given, percent / 100)
    found["prune 90 %, fine-tune"] = tuned(pruned(given, 0.9), 1)
    found["bfloat16"] = halved(given)
    for bits in (8, 4):
        found[f"int{bits}"] = quantised(given, bits)
    network = copy.deepcopy(given)
    for times in range(1, 9):
        scheme.overwrite(network, times, theirs)
        if times in (1, 2, 4, 8):
            found[f"overwrite x{times}"] = copy.deepcopy(network)
    if isinstance(scheme, Ours):
        network = copy.deepcopy(given)
        stronger = Ours(network, 2.0)
        for key in range(1, 9):
            stronger.overwrite(network, key, theirs)
        found["overwrite x8, margin x2"] = network
    found["fold BatchNorm"] = folded(given)
    found["permute and scale"] = disguised(given, 5)
    found["fine-tune x1, disguise, fold"] = folded(disguised(found["fine-tune, rate x1"], 6))
    found["distil"] = train(
        fresh(given, 99), theirs, 4 * tune, rate=RATE, seed=78, fall=True, teacher=given
    )
    return found


# Read as they are and after alignment with the marked segment.
ALIGNED = ("fold BatchNorm", "permute and scale", "fine-tune x1, disguise, fold", "distil")


def fresh(like: Network, seed: int) -> Network:
    first, last = like.front[0], like.segment[-1]
    assert isinstance(first, nn.Conv2d)
    assert isinstance(last, nn.Linear)
    device = last.weight.device
    return Network(first.in_channels, first.out_channels, last.out_features, seed).to(device)


def examine(scheme: Scheme, given: Network, theirs: Data, test: Data, tune: int) -> list[Row]:
    reference = given.arrays()
    rows = []
    for name, network in attacks(scheme, given, theirs, tune).items():
        score = accuracy(network, test)
        suspects = {name: network.arrays()}
        if name in ALIGNED:
            suspects[f"{name}, aligned"] = align_channels(suspects[name], reference)
        for label, arrays in suspects.items():
            row = Row(label, scheme.name, cosine(arrays, reference), score, *scheme.read(arrays))
            rows.append(row)
            print(
                f"{row.scheme:<7} {row.attack:<38} cosine {row.cosine:6.3f}  accuracy "
                f"{row.accuracy:.3f}  BER {row.ber:.3f}  T {row.statistic:6.2f}  "
                f"log2 p {row.log2_p:9.1f}",
                flush=True,
            )
    return rows


def cosine(ours: Arrays, theirs: Arrays) -> float:
    names = [name for name, value in theirs.items() if value.ndim >= 2]
    a, b = (np.concatenate([which[name].ravel() for name in names]) for which in (ours, theirs))
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) or 1.0))


def draw_figure(rows: list[Row], unmarked: float, title: str, out: Path) -> None:
    """Three panels over the same attacks: bit errors, chance of an accident, accuracy."""
    names = list(dict.fromkeys(row.attack for row in rows))
    figure, panels = plt.subplots(
        1, 3, figsize=(11, 0.28 * len(names) + 1.6), sharey=True, layout="constrained"
    )
    styles = {OURS: ("o", "#0072b2", 0.12), LOSS: ("D", "#d55e00", -0.12)}
    for scheme, (marker, colour, shift) in styles.items():
        own = [row for row in rows if row.scheme == scheme]
        if not own:
            continue
        heights = [names.index(row.attack) - shift for row in own]
        for panel, values in zip(
            panels,
            (
                [row.ber for row in own],
                [-row.log2_p for row in own],
                [row.accuracy for row in own],
            ),
            strict=True,
        ):
            panel.plot(values, heights, marker, color=colour, markersize=4.5, label=scheme)
    panels[0].set(xlabel="bit error rate", xlim=(-0.03, 0.65))
    panels[0].axvline(0.5, color="0.4", linewidth=1, linestyle=":")
    panels[0].text(0.505, -0.9, "chance", color="0.4", fontsize=8, va="center")
    panels[1].set(xlabel="bits against an accident, $-\\log_2 p$")
    panels[1].set_xscale("symlog", linthresh=10)
    panels[1].set_xlim(-0.5, 1.5 * max(-row.log2_p for row in rows))
    panels[1].axvline(64, color="0.4", linewidth=1, linestyle=":")
    panels[1].text(70, -0.9, "$2^{-64}$", color="0.4", fontsize=8, va="center")
    panels[2].set(xlabel="accuracy", xlim=(0, 1.03))
    panels[2].axvline(unmarked, color="0.4", linewidth=1, linestyle=":")
    panels[2].text(unmarked, -0.9, "unmarked ", color="0.4", fontsize=8, va="center", ha="right")
    panels[0].set_yticks(range(len(names)), names, fontsize=8)
    panels[0].set_ylim(len(names) - 0.4, -1.4)
    for panel in panels:
        panel.grid(axis="y", color="0.92", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(axis="y", length=0)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    figure.savefig(out, dpi=150)


def load(path: Path, rows: int | None, device: torch.device) -> tuple[str, Data, Data, Data, int]:
    """Return name, the owner's rows, the attacker's, test rows and the number of classes."""
    with open_dataset(path if path.is_file() else "digits") as source:
        parts = []
        for name in ("train", "test"):
            split = source.split(name)
            ids = np.random.default_rng(0).permutation(len(split))[:rows]
            maps = split.read(ids) - 0.5
            labels = split.labels()[ids]
            parts.append(
                Data(torch.from_numpy(maps).to(device), torch.from_numpy(labels).to(device))
            )
        training, test = parts
        cut = len(training.rows) * 2 // 3
        own = Data(training.rows[:cut], training.labels[:cut])
        theirs = Data(training.rows[cut:], training.labels[cut:])
        return source.name, own, theirs, test, source.num_classes


def main() -> None:
    parser = argparse.ArgumentParser(description="What a mark survives.")
    parser.add_argument("--data", type=Path, default=Path("data/cifar10.h5"))
    parser.add_argument("--rows", type=int, help="use so many rows of each split")
    parser.add_argument("--width", type=int, default=64, help="channels of the first block")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--tune", type=int, default=10, help="epochs of the attacker")
    parser.add_argument("--only", choices=(OURS, LOSS), help="leave the other scheme out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("mark-robustness.png"))
    given = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name, own, theirs, test, classes = load(given.data, given.rows, device)

    def new() -> Network:
        return Network(own.rows.shape[1], given.width, classes, given.seed).to(device)

    ours = Ours(new())
    weights = sum(math.prod(ours.shapes[key]) for key in ours.plan.eligible)
    title = (
        f"{name}, {len(own.rows)} rows, {given.epochs} epochs; {weights} weights carry "
        f"{ours.plan.bits} bits, $r$ = {ours.plan.weights_per_bit}, $\\tau$ = {ours.plan.tau:.2f}"
    )
    print(title.replace("$", "").replace("\\", ""))
    bare = train(new(), own, given.epochs, rate=RATE, seed=given.seed, fall=True)
    unmarked = accuracy(bare, test)
    ber, statistic, log2_p = ours.read(bare.arrays())
    print(
        f"unmarked: accuracy {unmarked:.3f}, BER {ber:.3f}, T {statistic:.2f}, log2 p {log2_p:.1f}"
    )
    rows = []
    for scheme in (ours, Uchida(new())):
        if given.only not in (None, scheme.name):
            continue
        marked = scheme.train(new(), own, given.epochs, given.seed)
        rows += examine(scheme, marked, theirs, test, given.tune)
    table = {"title": title, "unmarked": unmarked, "rows": [asdict(row) for row in rows]}
    given.out.with_suffix(".json").write_text(json.dumps(table, indent=1))
    draw_figure(rows, unmarked, title, given.out)
    print(f"figure: {given.out}")


if __name__ == "__main__":
    main()
