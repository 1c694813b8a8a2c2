"""Transfer of classifiers between cells: sub-labels of one class look the same to a network.

A small network that tells the sub-labels of one cell apart is shown the rows of another cell: what
it answers there says which sub-labels are of one class, also where no mean does. Grouping and
network then improve each other, each sub-label judged by networks trained without it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional

from clicooper_hpc.attacks.toolbox.attack_device import attack_device

__all__ = [
    "SubLabelRows",
    "refine_by_transfer",
    "transfer_between_cells",
    "transfer_confusion",
    "transfer_scores",
]

_HIDDEN, _BATCH, _RATE, _DECAY = 192, 256, 2e-3, 1e-2
_STEPS = 600
_MOST_STEPS = 20_000  # of the networks of all cells together


@dataclass(frozen=True, slots=True, eq=False)
class SubLabelRows:
    """Rows float32 [n, d] and the sub-label int64 [n] of each."""

    rows: NDArray[np.float32]
    labels: NDArray[np.int64]


def transfer_scores(
    rows: NDArray[np.float32],
    classes: NDArray[np.int64],
    count: int,
    others: NDArray[np.float32],
    seed: int,
    *,
    steps: int = _STEPS,
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Train a two-layer network on rows [n, d] and return its log-probabilities [m, count].

    Parameters
    ----------
    rows, classes
        float32 [n, d] and int64 [n] in [0, count).
    others
        float32 [m, d], what it is asked about.
    weights
        float64 [n]: rows are drawn in this proportion.
    """
    device = attack_device()
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.from_numpy(rows).to(device), torch.from_numpy(classes).to(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(rows.shape[1], _HIDDEN), nn.GELU(), nn.Dropout(0.3), nn.Linear(_HIDDEN, count)
        ).to(device)
        optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2 * _RATE, total_steps=steps)
        # Each sub-label shall count the same, however many rows it has.
        chances = torch.ones(len(rows)) if weights is None else torch.from_numpy(weights).float()
        for _ in range(steps):
            # On the CPU, so that the same seed draws the same rows with and without a GPU.
            drawn = torch.multinomial(chances, _BATCH, replacement=True, generator=generator)
            loss = functional.cross_entropy(
                network(x[drawn.to(device)]), y[drawn.to(device)], label_smoothing=0.05
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.no_grad():
        answers: Tensor = functional.log_softmax(network(torch.from_numpy(others).to(device)), 1)
    return answers.cpu().numpy().astype(np.float64)


def transfer_between_cells(
    seen: SubLabelRows,
    cell_of: NDArray[np.int64],
    seed: int,
    *,
    scale: float = 1.0,
) -> NDArray[np.float64]:
    """Return how similar sub-labels of different cells are to networks of one cell each: [s, s].

    Entry (a, b) is the mean log-probability that the network of a's cell gives to a on rows of b,
    less its mean over the members of b's cell. Rows are centred by cell.
    """
    rows, labels, count = seen.rows, seen.labels, len(cell_of)
    cell = cell_of[labels]
    centred = _centred_by_cell(rows, cell)
    scores = np.zeros((count, count))
    weights = 1.0 / np.bincount(labels, minlength=count)[labels]
    cells = int(cell_of.max()) + 1
    steps = max(20, int(min(_STEPS / 2, _MOST_STEPS / cells) * scale))
    for number in range(cells):
        members = np.flatnonzero(cell_of == number)
        place = np.full(count, -1)
        place[members] = np.arange(len(members))
        own = cell == number
        # A cell of one member tells nothing apart.
        if not own.any() or len(members) < 2:
            continue
        answers = transfer_scores(
            centred[own],
            place[labels[own]],
            len(members),
            centred,
            seed + number,
            steps=steps,
            weights=weights[own],
        )
        means = _transfer_means(answers, labels, count)
        scores[members] = means.T
    for number in range(cells):
        members = np.flatnonzero(cell_of == number)
        # Some sub-labels look like every class: only what exceeds the cell's mean counts.
        scores[:, members] -= scores[:, members].mean(axis=1, keepdims=True)
    return scores


def transfer_confusion(
    seen: SubLabelRows, count: int, seed: int, *, scale: float = 1.0
) -> NDArray[np.float64]:
    """Return the mean probability of sub-label b on rows of a, by networks that never saw the row.

    Two-fold; float64 [s, s].
    """
    rows, labels = seen.rows, seen.labels
    # Two folds: a network would know the rows it was trained on by heart.
    fold = np.random.default_rng(seed).permutation(len(rows)) % 2
    steps = max(20, int(2 * _STEPS * scale))
    total = np.zeros((len(rows), count))
    for part in (0, 1):
        learn, ask = fold != part, fold == part
        answers = transfer_scores(
            rows[learn], labels[learn], count, rows[ask], seed + part, steps=steps
        )
        total[ask] = np.exp(answers)
    return _transfer_means(total, labels, count)


def refine_by_transfer(
    seen: SubLabelRows,
    groups: NDArray[np.int64],
    classes: int,
    seed: int,
    *,
    cell_of: NDArray[np.int64] | None = None,
    rounds: int = 6,
    scale: float = 1.0,
) -> NDArray[np.int64]:
    """Return better groups: networks learn half the sub-labels' groups and judge the other half.

    Parameters
    ----------
    groups
        int64 [s] in [0, classes), the beginning.
    cell_of
        Cells that hold each class once: judged halves are whole cells, rows are centred by cell.
        Without it, halves cut every group in two and groups hold equally many sub-labels.
    """
    rows, labels, count = seen.rows, seen.labels, len(groups)
    rng = np.random.default_rng(seed)
    cells = np.zeros(count, dtype=np.int64) if cell_of is None else cell_of
    centred = rows if cell_of is None else _centred_by_cell(rows, cells[labels])
    weights = 1.0 / np.bincount(labels, minlength=count)[labels]
    chosen = groups.copy()
    steps = max(20, int(_STEPS * scale))
    for turn in range(max(1, round(rounds * scale))):
        if cell_of is None:
            half = _transfer_halves(chosen, rng)
        else:
            half = (rng.permutation(int(cells.max()) + 1) % 2)[cells]
        scores = np.zeros((count, classes))
        for part in (0, 1):
            learn, ask = half[labels] != part, half[labels] == part
            # All of one half without rows: nothing can be judged any more.
            if not learn.any() or not ask.any():
                return chosen
            answers = transfer_scores(
                centred[learn],
                chosen[labels[learn]],
                classes,
                centred[ask],
                seed + 2 * turn + part,
                steps=steps,
                weights=weights[learn],
            )
            scores += _transfer_means(answers, labels[ask], count)
        before = chosen.copy()
        for number in range(int(cells.max()) + 1):
            members = np.flatnonzero(cells == number)
            column = scores[members] - scores[members].mean(axis=0)
            # As many slots a class as members need, dealt evenly.
            slots = np.arange(classes * -(-len(members) // classes)) % classes
            which, where = linear_sum_assignment(-column[:, slots])
            chosen[members[which]] = slots[where]
        if np.array_equal(before, chosen):
            break
    return chosen


def _transfer_halves(groups: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return 0 or 1 for each member, every group cut in half: a half without a class learns none.

    Which half is larger alternates from one odd group to the next.
    """
    order = rng.permutation(len(groups))
    order = order[np.argsort(groups[order], kind="stable")]
    half = np.empty(len(groups), dtype=np.int64)
    half[order] = np.arange(len(groups)) % 2
    return half


def _transfer_means(
    values: NDArray[np.float64], labels: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, labels, values)
    means: NDArray[np.float64] = sums / np.maximum(np.bincount(labels, minlength=count), 1)[:, None]
    return means


def _centred_by_cell(rows: NDArray[np.float32], cell: NDArray[np.int64]) -> NDArray[np.float32]:
    count = int(cell.max()) + 1
    sums = np.zeros((count, rows.shape[1]))
    np.add.at(sums, cell, rows.astype(np.float64))
    means = sums / np.maximum(np.bincount(cell, minlength=count), 1)[:, None]
    return np.asarray(rows - means[cell], dtype=np.float32)
