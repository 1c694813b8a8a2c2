"""Figures of what attacks found: reconstructions, groupings of sub-labels, membership curves."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.inversion.pictures import save_pictures
from clicooper_hpc.attacks.labels.metrics import adjusted_rand
from clicooper_hpc.attacks.labels.tables import by_class, grouping_table, sorted_confusion
from clicooper_hpc.errors import EnvironmentUnfitError
from clicooper_hpc.runstore.attack_record import AttackRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_curves", "draw_figures", "draw_grouping", "draw_reconstructions"]

Arrays = Mapping[str, NDArray[np.generic]]

_SHOWN: Final = 12
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
        if seed == 0:
            found.setdefault((attack, party), {})[name] = values
    paths = []
    for (attack, party), arrays in found.items():
        path = folder / f"{attack}-{party.replace(' ', '-')}.png"
        title = f"{attack}, {party}"
        if "originals" in arrays:
            draw_reconstructions(arrays, path, title=title)
        elif "classes" in arrays and any(name.startswith(_GROUPS) for name in arrays):
            draw_grouping(arrays, path, title=title)
        elif any(name.startswith(_ROC) for name in arrays):
            draw_curves(arrays, path, title=title)
        else:
            continue
        paths.append(path)
    return tuple(paths)


def draw_reconstructions(arrays: Arrays, path: Path, *, title: str) -> None:
    """Write originals beside what an inversion made of their rows; see `save_pictures`."""
    save_pictures(arrays, path, title=title, shown=_SHOWN)


def draw_grouping(arrays: Arrays, path: Path, *, title: str) -> None:
    """Write the true classes of the groups that the strongest grouping found.

    Parameters
    ----------
    arrays
        `Outcome.arrays` of the merge attack: ``"groups: VARIANT"`` and ``"classes"`` int64
        [gamma K], ``"seen"`` bool [gamma K]; where there is ``"confusion"`` float [gamma K,
        gamma K], it is drawn too, in the order of the true classes.
    path, title
        Of the figure.
    """
    classes = np.asarray(arrays["classes"], dtype=np.int64)
    seen = np.asarray(arrays.get("seen", np.ones(len(classes), dtype=np.bool_)), dtype=np.bool_)
    true = classes[seen]
    groups = {
        name.removeprefix(_GROUPS): np.asarray(values, dtype=np.int64)[seen]
        for name, values in arrays.items()
        if name.startswith(_GROUPS)
    }
    score, best = max((adjusted_rand(group, true), name) for name, group in groups.items())
    table = grouping_table(groups[best], true)
    confusion = arrays.get("confusion")
    figure = _figure((10.0 if confusion is not None else 5.6, 5.0))
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(1, 1 if confusion is None else 2, squeeze=False)[0]
    shown = axes[0].imshow(table, cmap="viridis", vmin=0, aspect="auto", interpolation="nearest")
    best_said = textwrap.fill(f"strongest: {best}, ARI {score:.2f}", 46)
    axes[0].set_title(best_said, fontsize=9)
    axes[0].set_xlabel("group found, named as it fits best")
    axes[0].set_ylabel("true class")
    if len(table) <= _NUMBERED:
        axes[0].set_xticks(range(table.shape[1]))
        axes[0].set_yticks(range(len(table)))
    figure.colorbar(shown, ax=axes[0], label="sub-labels", ticks=_whole(int(table.max())))
    if confusion is not None:
        order = by_class(classes, seen)
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


def draw_curves(arrays: Arrays, path: Path, *, title: str) -> None:
    """Write membership curves, both axes logarithmic, with chance and the guarantee's bound.

    Parameters
    ----------
    arrays
        `Outcome.arrays` of the membership attack: ``"roc VARIANT"`` and, under a guarantee,
        ``"bound"``, float64 [2, points]: false- and true-positive rates.
    path, title
        Of the figure.
    """
    figure = _figure((5.2, 4.6))
    axis = figure.subplots()
    least = 1e-3  # below it a curve is a handful of members
    for name, values in arrays.items():
        if name.startswith(_ROC):
            false, true = np.asarray(values, dtype=np.float64)
            axis.plot(false, true, linewidth=1.3, label=name.removeprefix(_ROC))
    if "bound" in arrays:
        false, true = np.asarray(arrays["bound"], dtype=np.float64)
        axis.plot(false, true, color="black", linewidth=1.3, label="bound of the guarantee")
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


def _whole(most: int) -> list[int]:
    """Return at most eleven whole numbers from 0 to ``most``: ticks of counts."""
    return list(range(0, most + 1, max(1, -(-most // 10))))


def _figure(size: tuple[float, float]) -> Figure:
    try:
        from matplotlib.figure import Figure as Canvas
    except ImportError as error:
        raise EnvironmentUnfitError(
            "figures need matplotlib", where="attack", remedy="Install clicooper-hpc[report]."
        ) from error
    return Canvas(figsize=size, layout="constrained")
