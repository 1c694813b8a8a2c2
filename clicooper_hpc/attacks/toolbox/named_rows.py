"""What recoloured public rows and their names tell of the sums that they were made of.

Two readings. The rows themselves, added up by name: their mean is that of the sums, with moments
their covariance nearly so. And what is behind the names: the job says in public how a model was
made of the sums, and how rows were named by it, so that the rows by name add up to what its
probabilities, to the power of the job's sharpness, expect (`choose_names`). An attacker does the
same with sums of its own, and corrects them until the rows by name would add up to what they do
(Landweber, "An iteration formula for Fredholm integral equations of the first kind", American
Journal of Mathematics 73, 1951; stopped early, or directions that the model hardly shows would be
filled with errors).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from clicooper_hpc.attacks.harness.adversary import AdversaryView, AuxiliaryData, LabelledImages
from clicooper_hpc.attacks.harness.summed_release import SummedRelease
from clicooper_hpc.attacks.toolbox.summed_rows import LabelledRows, summed_rows
from clicooper_hpc.fronts.private_lda import shrunk_means, whitening_root
from clicooper_hpc.owner.moment_model import MomentModel, fit_moment_model
from clicooper_hpc.privacy.moments import Moments

__all__ = [
    "named_release",
    "public_labelled_rows",
    "read_named_classes",
    "released_behind_names",
]

# Of rows times names that one step looks at: some seconds on one core.
_NUMBERS: Final = 2**28
# Fewer steps where the owner's model takes long to fit: so many numbers of all steps together.
_STEPS: Final = 40
_LEAST_STEPS: Final = 10
_FITTED: Final = 2**31
_COMPARED: Final = 64
_SAME_ROWS: Final = 0.01
# Times as much missing as at best.
_TOO_FAR: Final = 4.0


def named_release(view: AdversaryView) -> SummedRelease:
    """Return the sums of recoloured rows by name, scaled to the number of samples.

    Mixes are left out: they have the mean and covariance of the others only nearly.
    """
    rows, names = _plain_rows(view), view.sub_labels
    factor, count = view.samples / len(rows), view.sub_label_count
    sums = np.zeros((count, rows.shape[1]))
    np.add.at(sums, names[: len(rows)], rows)
    sizes = np.bincount(names[: len(rows)], minlength=count).astype(np.float64) * factor
    second = _released_second(view, rows)
    return SummedRelease(sums * factor, view.samples, _sigma(view), second=second, sizes=sizes)


def released_behind_names(view: AdversaryView, public: LabelledRows | None) -> SummedRelease | None:
    """Return the released sums, by name, as the model shows them that the names follow.

    Parameters
    ----------
    view
        Of whoever got rows and names, and knows how the job has them named.
    public
        Public rows with their classes, before they were recoloured: discriminants of class sums
        were made with their spread within classes.

    Returns
    -------
    SummedRelease | None
        None if the names say nothing: there are fewer than two, or public rows are missing that are
        needed.
    """
    rows = _plain_rows(view)
    if len(np.unique(view.sub_labels)) < 2 or (view.release == "sums" and public is None):
        return None
    root = None
    everything, names = _whole_rounds(view, rows)
    if view.release == "sums" and public is not None:
        root = whitening_root(public.rows, public.classes)
    else:
        # Sizes are summed up beside rows, as a number more that is 1.
        everything = np.column_stack([everything, np.ones(len(everything))])
    width, factor = rows.shape[1], view.samples / len(everything)
    target = np.zeros((view.sub_label_count, everything.shape[1]))
    np.add.at(target, names, factor * everything)
    # A name's rows add up to what is expected but for a row or two, however many there are.
    enough = 2 * view.samples / len(rows) * float(np.linalg.norm(rows, axis=1).mean())
    guess = best = found = target
    least, step = math.inf, 1 / view.sharpness
    model: MomentModel | None = None
    before: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    steps = _STEPS
    if root is None:
        steps = min(_STEPS, max(_LEAST_STEPS, _FITTED // (rows.size * view.sub_label_count)))
    for _ in range(steps):
        model = _owner_model(view, rows, guess, root, model)
        # Named by this model, the rows would add up to these sums.
        likely = model.class_probabilities(everything[:, :width], sharpness=view.sharpness)
        missing = target - factor * (likely.T @ everything)
        left = float(np.linalg.norm(missing[:, :width], axis=1).mean())
        if left > _TOO_FAR * least:
            # A step too far: once more from the best so far, with short steps at first.
            guess, before, step, model = best, None, step / _TOO_FAR, None
            missing, left = found, least
        elif before is not None:
            moved, fell = guess - before[0], before[1] - missing
            # How far a step has to go for what it brings (Barzilai and Borwein, IMA Journal of
            # Numerical Analysis 8, 1988).
            brought = float(np.vdot(moved, fell))
            step = float(np.vdot(moved, moved)) / brought if brought > 0 else step
        if left <= least:
            best, least, found = guess, left, missing
        if least <= enough:
            break
        before = guess, missing
        guess = guess + step * missing
    return SummedRelease(
        best[:, :width],
        view.samples,
        _sigma(view),
        second=_released_second(view, rows),
        sizes=best[:, width] if root is None else None,
    )


def public_labelled_rows(view: AdversaryView, aux: AuxiliaryData) -> LabelledRows | None:
    """Return rows of the public images as they were before they were recoloured.

    Up to a constant for all rows where the public images are those of the job, all of them. None
    without public images, and with moments, for which `released_behind_names` does without.
    """
    if aux.public is None or view.release != "sums":
        return None
    rows = _plain_rows(view)
    if len(rows) == len(aux.public):
        some = LabelledImages(aux.public.images[:_COMPARED], aux.public.classes[:_COMPARED])
        moved = rows[:_COMPARED] - summed_rows(view, some).rows
        # Rows are cut to the grid where they are summed up, and these were not.
        if np.ptp(moved, axis=0).max() < _SAME_ROWS:
            return LabelledRows(rows, aux.public.classes)
    return summed_rows(view, aux.public)


def read_named_classes(release: SummedRelease, known: LabelledRows) -> SummedRelease:
    """Return sums by name in the order of classes, as labelled rows show it.

    Each name goes to one class, so that mean rows of names and of classes fit best (Kuhn 1955).
    """
    count = len(release.sums)
    centre = known.rows.mean(axis=0)
    classes = np.zeros((count, known.rows.shape[1]))
    for one in np.unique(known.classes):
        classes[one] = known.rows[known.classes == one].mean(axis=0) - centre
    size = release.samples / count
    names = release.sums / size - release.sums.sum(axis=0) / release.samples
    _, chosen = linear_sum_assignment(-classes @ names.T)
    sizes = None if release.sizes is None else release.sizes[chosen]
    return SummedRelease(
        release.sums[chosen], release.samples, release.sigma, second=release.second, sizes=sizes
    )


def _owner_model(
    view: AdversaryView,
    rows: NDArray[np.float64],
    guess: NDArray[np.float64],
    root: NDArray[np.float64] | None,
    start: MomentModel | None,
) -> MomentModel:
    """Return the model that the owner would make of sums ``guess`` float64 [K, p], [K, p + 1].

    ``rows``: public ones, recoloured. ``root``: `whitening_root` of those before they were, for
    class sums alone; else the last column are the sizes.
    """
    count, sigma = view.sub_label_count, _sigma(view)
    if root is None:
        # The second moment is in the rows already.
        unused = np.eye(rows.shape[1])
        moments = Moments(guess[:, :-1], unused, guess[:, -1], view.samples, sigma)
        return fit_moment_model(rows, moments, start=start)
    each = view.samples / count
    means = guess / each
    centre = means.mean(axis=0)
    shrunk = shrunk_means((means - centre) @ root, root, noise=sigma / each, samples=each)
    matrix = root @ shrunk.T
    return MomentModel(matrix, -np.square(shrunk).sum(axis=1) / 2 - centre @ matrix)


def _whole_rounds(
    view: AdversaryView, rows: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Return public rows and as many rounds of mixes as can be worked on, with their names."""
    # Whole rounds: each was named such that its own sums are right.
    rounds = min(1 + view.mixes, max(1, _NUMBERS // (rows.size * view.sub_label_count)))
    count = rounds * len(rows)
    return view.rows[:count].reshape(count, -1).astype(np.float64), view.sub_labels[:count]


def _plain_rows(view: AdversaryView) -> NDArray[np.float64]:
    """Return the recoloured public rows, float64 [n, p], without mixes of them."""
    plain = view.rows[: len(view.rows) // (1 + view.mixes)]
    return plain.reshape(len(plain), -1).astype(np.float64)


def _released_second(view: AdversaryView, rows: NDArray[np.float64]) -> NDArray[np.float64] | None:
    # Where class sums alone were released the covariance is that of the public rows.
    if view.release == "sums":
        return None
    return np.asarray(rows.T @ rows * (view.samples / len(rows)), dtype=np.float64)


def _sigma(view: AdversaryView) -> float:
    spec = view.mechanism.spec
    return 0.0 if spec is None else spec.sigma
