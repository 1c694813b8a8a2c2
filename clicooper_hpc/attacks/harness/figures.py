"""Figures of what attacks found: reconstructions, groupings of sub-labels, membership curves."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from clicooper_hpc.attacks.labels.grouping_metrics import adjusted_rand, contingency_table
from clicooper_hpc.errors import EnvironmentUnfitError
from clicooper_hpc.runstore.attack_record import AttackRecord
from clicooper_hpc.runstore.quiet_matplotlib import quiet_matplotlib

if TYPE_CHECKING:
    # Figure alone, without pyplot: no window, no global state, safe in any thread of a batch job.
    from matplotlib.figure import Figure

__all__ = ["draw_figures", "draw_grouping_figure", "draw_reconstruction_figure", "draw_roc_figure"]

Arrays = Mapping[str, NDArray[np.generic]]

_SHOWN: Final = 12
#: Names of arrays, or how they begin.
_ORIGINALS, _MEAN_IMAGE = "originals", "mean image"
_GROUPS, _ROC = "groups: ", "roc "
#: Classes up to which each has its number on the axis.
_NUMBERED: Final = 20


def draw_figures(record: AttackRecord, folder: Path) -> tuple[Path, ...]:
    """Write ``ATTACK-PARTY.png`` for what ``record`` holds of each attack's first seed.

    Inversions show the owner's images: keep them where only the owner reads.

    Raises
    ------
    EnvironmentUnfitError
        Without matplotlib.
    """
    found: dict[tuple[str, str], dict[str, NDArray[np.generic]]] = {}
    for (attack, party, seed, name), values in record.arrays.items():
        # One figure for each attack: other seeds are for the ranges in the table.
        if seed == 0:
            found.setdefault((attack, party), {})[name] = values
    paths = []
    for (attack, party), arrays in found.items():
        path = folder / f"{attack}-{party.replace(' ', '-')}.png"
        title = f"{attack}, {party}"
        # Told by what is stored, not by the attack's name, so that a new attack gets its figure
        # unasked.
        if _ORIGINALS in arrays:
            draw_reconstruction_figure(arrays, path, title=title)
        elif "classes" in arrays and any(name.startswith(_GROUPS) for name in arrays):
            draw_grouping_figure(arrays, path, title=title)
        elif any(name.startswith(_ROC) for name in arrays):
            draw_roc_figure(arrays, path, title=title)
        else:
            continue
        paths.append(path)
    return tuple(paths)


def draw_reconstruction_figure(
    arrays: Arrays, path: Path, *, title: str, shown: int = _SHOWN
) -> None:
    """Write a figure with a row of originals, one for each variant, and one of the mean image.

    Parameters
    ----------
    arrays
        `AttackOutcome.arrays` of an inversion: ``"originals"`` and variants float32
        [n, channels, height, width] in [0, 1], ``"mean image"`` with n = 1, repeated.
    path
        Of the figure; its ending says the format.
    title
        Above the figure.
    shown
        Pictures in a row.
    """
    variants = [name for name in arrays if name not in (_ORIGINALS, _MEAN_IMAGE)]
    names = [_ORIGINALS, *variants, *([_MEAN_IMAGE] if _MEAN_IMAGE in arrays else [])]
    columns = min(shown, len(arrays[_ORIGINALS]))
    figure = _blank_figure((1.1 * columns + 2.4, 1.1 * len(names) + 0.5))
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(len(names), columns, squeeze=False)
    for line, name in zip(axes, names, strict=True):
        pictures = np.asarray(arrays[name], dtype=np.float32)
        for place, axis in enumerate(line):
            axis.imshow(
                _figure_picture(pictures[place % len(pictures)]), cmap="gray", vmin=0, vmax=1
            )
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(
            name.replace(", ", "\n"), rotation=0, ha="right", va="center", fontsize=9
        )
    figure.savefig(path, dpi=150)


def draw_grouping_figure(arrays: Arrays, path: Path, *, title: str) -> None:
    """Write the true classes of the groups that the strongest grouping found.

    Parameters
    ----------
    arrays
        `AttackOutcome.arrays` of the merge attack: ``"groups: VARIANT"`` and ``"classes"`` int64
        [gamma K], ``"seen"`` bool [gamma K]; where there is ``"confusion"`` float [gamma K,
        gamma K], it is drawn too, in the order of the true classes.
    path, title
        Of the figure.
    """
    classes = np.asarray(arrays["classes"], dtype=np.int64)
    # Records of older versions lack "seen": then all sub-labels occur.
    seen = np.asarray(arrays.get("seen", np.ones(len(classes), dtype=np.bool_)), dtype=np.bool_)
    true = classes[seen]
    groups = {
        name.removeprefix(_GROUPS): np.asarray(values, dtype=np.int64)[seen]
        for name, values in arrays.items()
        if name.startswith(_GROUPS)
    }
    score, best = max((adjusted_rand(group, true), name) for name, group in groups.items())
    table = sorted_grouping_table(groups[best], true)
    confusion = arrays.get("confusion")
    figure = _blank_figure((10.0 if confusion is not None else 5.6, 5.0))
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(1, 1 if confusion is None else 2, squeeze=False)[0]
    shown = axes[0].imshow(table, cmap="viridis", vmin=0, aspect="auto", interpolation="nearest")
    # Names of variants are long, and a title does not wrap by itself.
    best_said = textwrap.fill(f"strongest: {best}, ARI {score:.2f}", 46)
    axes[0].set_title(best_said, fontsize=9)
    axes[0].set_xlabel("group found, named as it fits best")
    axes[0].set_ylabel("true class")
    if len(table) <= _NUMBERED:
        axes[0].set_xticks(range(table.shape[1]))
        axes[0].set_yticks(range(len(table)))
    figure.colorbar(shown, ax=axes[0], label="sub-labels", ticks=_count_ticks(int(table.max())))
    if confusion is not None:
        order = sub_labels_by_class(classes, seen)
        shares = sorted_confusion(np.asarray(confusion, dtype=np.float64), order)
        shown = axes[1].imshow(shares, cmap="viridis", aspect="auto", interpolation="nearest")
        axes[1].set_title("mean answer of the network to a row of each sub-label", fontsize=9)
        axes[1].set_xlabel("sub-label answered, sorted by true class")
        axes[1].set_ylabel("sub-label of the row, sorted by true class")
        for edge in np.flatnonzero(np.diff(classes[order])) + 0.5:
            axes[1].axhline(edge, color="white", linewidth=0.3)
            axes[1].axvline(edge, color="white", linewidth=0.3)
        figure.colorbar(shown, ax=axes[1], label="probability")
    figure.savefig(path, dpi=130)


def draw_roc_figure(arrays: Arrays, path: Path, *, title: str) -> None:
    """Write membership curves, both axes logarithmic, with chance and the guarantee's bound.

    Parameters
    ----------
    arrays
        `AttackOutcome.arrays` of the membership attack: ``"roc VARIANT"`` and, under a guarantee,
        ``"bound"``, float64 [2, points]: false- and true-positive rates.
    path, title
        Of the figure.
    """
    figure = _blank_figure((5.2, 4.6))
    axis = figure.subplots()
    least = 1e-3  # below it a curve is a handful of members
    for name, values in arrays.items():
        if name.startswith(_ROC):
            false, true = np.asarray(values, dtype=np.float64)
            axis.plot(false, true, linewidth=1.3, label=name.removeprefix(_ROC))
    if "bound" in arrays:
        false, true = np.asarray(arrays["bound"], dtype=np.float64)
        axis.plot(false, true, color="black", linewidth=1.3, label="bound of the guarantee")
    # Both axes logarithmic, so that chance is a line and few false positives can be read.
    axis.plot([least, 1], [least, 1], color="grey", linestyle="--", linewidth=1, label="chance")
    axis.set(
        xscale="log",
        yscale="log",
        xlim=(least, 1),
        ylim=(least, 1.1),
        xlabel="false positives",
        ylabel="true positives",
    )
    axis.set_title(title, fontsize=10)
    axis.grid(visible=True, alpha=0.3)
    axis.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=130)


def _count_ticks(most: int) -> list[int]:
    """Return at most eleven whole numbers from 0 to ``most``: ticks of counts."""
    return list(range(0, most + 1, max(1, -(-most // 10))))


def _blank_figure(size: tuple[float, float]) -> Figure:
    try:
        with quiet_matplotlib():
            from matplotlib.figure import Figure as Canvas
    except ImportError as error:
        raise EnvironmentUnfitError(
            "figures need matplotlib", where="attack", remedy="Install clicooper-hpc[report]."
        ) from error
    return Canvas(figsize=size, layout="constrained")


def sorted_grouping_table(found: NDArray[np.int64], truth: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many sub-labels of true class i are in found group j, int64 [classes, groups].

    Groups are in the order that puts most on the diagonal; those without a class come last.

    Parameters
    ----------
    found, truth
        int64 [n]: group and class of each sub-label.
    """
    table = contingency_table(found, truth).T
    classes, groups = linear_sum_assignment(-table)
    named = groups[np.argsort(classes)]
    # More groups than classes: the rest keeps its columns, or sub-labels would vanish from the
    # table.
    left = np.setdiff1d(np.arange(table.shape[1]), named)
    return table[:, np.concatenate([named, left]).astype(np.int64)]


def sub_labels_by_class(classes: NDArray[np.int64], seen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the sub-labels that occur, sorted by class: int64 [<= gamma K]."""
    order = np.argsort(classes, kind="stable").astype(np.int64)
    return order[seen[order]]


def sorted_confusion(
    confusion: NDArray[np.float64], order: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return rows and columns of a confusion float64 [gamma K, gamma K] in ``order``."""
    return confusion[np.ix_(order, order)]


def _figure_picture(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return [height, width, 3] or [height, width] for one of 3 or any other number of channels."""
    cut = np.clip(image, 0.0, 1.0)
    return np.moveaxis(cut, 0, 2) if len(cut) == 3 else cut.mean(axis=0)
