"""DP audit of released sums: real sums and real noise of worst-case data sets, many times.

The code that is tested is that of a run (`recorded_mechanism`) with the run's sigma and grid, on
rows of 3 numbers in 2 classes. Class sums alone or moments: whatever blocks a release has are
looked at. A release takes milliseconds whatever its size, so most
are done many at a time: data sets whose rows lie in different coordinates and whose classes are
different ones go into one release of 3 m numbers in 2 m classes, where each has numbers of its own.
Their noise is independent if that of all numbers is, which is asked for separately: by
`summed_audit_noise`, and by data sets that are released alone.
"""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.dp_audit.audit_results import audit_bound_result, audit_fault_result
from clicooper_hpc.attacks.dp_audit.epsilon_bound import (
    RELEASES_PER_NUMBER,
    ReleaseFunction,
    epsilon_lower_bound,
)
from clicooper_hpc.attacks.dp_audit.noise_check import check_noise, check_noise_correlation
from clicooper_hpc.attacks.dp_audit.worst_case_samples import (
    SAMPLE_CLASSES,
    SAMPLE_NUMBERS,
    worst_case_samples,
)
from clicooper_hpc.attacks.harness.attack import AttackResult
from clicooper_hpc.attacks.harness.summed_release import SummedRelease
from clicooper_hpc.attacks.toolbox.summed_mechanism import SummedMechanism
from clicooper_hpc.privacy.release_spec import ReleaseSpec

__all__ = [
    "summed_audit_bounds",
    "summed_audit_noise",
    "summed_audit_release",
]

#: Releases of each neighbour, and of those that are released alone.
_TRIALS: Final = 100_000
_ALONE: Final = 800
#: Pairs that reach the claimed sensitivity, of moments both and of class sums the first; of the
#: others a quarter shows any fault they are for.
_WORST: Final = ("opposite rows", "other class")
_ASKED_ALONE: Final = (*_WORST, "diagonal")
_CONFIDENCE: Final = 0.99
#: Numbers released of one data set at most: class sums, second moment, sizes.
_NUMBERS: Final = (
    SAMPLE_CLASSES * SAMPLE_NUMBERS + SAMPLE_NUMBERS * (SAMPLE_NUMBERS + 1) // 2 + SAMPLE_CLASSES
)
#: Data sets in one release; more would draw most of the noise for products nobody looks at.
_TOGETHER: Final = 40
#: Numbers of a row, and classes, of the releases whose noise is looked at.
_NOISE_NUMBERS: Final = 192
_NOISE_RELEASES: Final = 8
# A z-score that independent noise exceeds with a chance of 2e-9.
_CORRELATED: Final = 6.0


def summed_audit_release(mechanism: SummedMechanism, together: int) -> ReleaseFunction:
    """Make a `ReleaseFunction` of a mechanism, for data sets of `worst_case_samples`.

    ``together``: data sets in one release. No two releases are of the same data set, so that none
    has the noise of another.
    """
    used = itertools.count()

    def release(samples: NDArray[np.float64], count: int) -> NDArray[np.float32]:
        rows, classes = samples[:, :-1], samples[:, -1].astype(np.int64)
        n, p = rows.shape
        # Data set j has coordinates j p to (j + 1) p and classes j K to (j + 1) K for itself.
        wide = np.einsum("ij,nk->injk", np.eye(together), rows)
        wide = wide.reshape(together * n, together * p)
        named = (SAMPLE_CLASSES * np.arange(together)[:, np.newaxis] + classes).reshape(-1)
        parts = [
            _numbers_of_each(mechanism(wide, named, SAMPLE_CLASSES * together, next(used)), p)
            for _ in range(-(-count // together))
        ]
        return np.concatenate(parts)[:count].astype(np.float32)

    return release


def summed_audit_bounds(
    mechanism: SummedMechanism, spec: ReleaseSpec, *, trials: int = _TRIALS, seed: int = 0
) -> tuple[AttackResult, ...]:
    """Bound the epsilon of ``mechanism`` from below on every pair of `worst_case_samples`.

    Parameters
    ----------
    mechanism
        What is tested; `recorded_mechanism` of a run.
    spec
        Says what is claimed of it.
    trials
        Releases of each neighbour, a quarter of the pairs that cannot come near the claim; of
        those that are released alone at most 800.
    seed
        As it was made with; for the table.

    Returns
    -------
    tuple[AttackResult, ...]
        ``value`` and ``low`` are the lower bound of epsilon, ``ceiling`` is the claim.
    """
    results = []
    for name, pair in worst_case_samples().items():
        attempts = [(_TOGETHER, trials if name in _WORST else trials // 4)]
        # Released alone there is all that one number's noise may have to do with another's.
        attempts += [(1, min(_ALONE, trials))] if name in _ASKED_ALONE else []
        for together, number in attempts:
            bound = epsilon_lower_bound(
                summed_audit_release(mechanism, together),
                *pair,
                # Fewer, and there would be no covariance to work with.
                trials=max(number // 2 * 2, RELEASES_PER_NUMBER * _NUMBERS),
                delta=spec.guarantee.delta,
                confidence=_CONFIDENCE,
            )
            variant = name if together > 1 else f"{name}, alone"
            results.append(audit_bound_result(variant, bound, spec, seed))
    return tuple(results)


def summed_audit_noise(
    mechanism: SummedMechanism, spec: ReleaseSpec, *, seed: int = 0
) -> AttackResult:
    """Count faults of the noise: grid and law of each block, noise that two of them share.

    Asked of sums of nothing but zero rows, all of one class.
    """
    p = _NOISE_NUMBERS
    rows, classes = np.zeros((1, p)), np.zeros(1, dtype=np.int64)
    made = [_noise_blocks(mechanism(rows, classes, p, data)) for data in range(_NOISE_RELEASES)]
    wide, fine = np.sqrt(2) * spec.sigma, spec.grid**2
    laws = {
        "class sums": (spec.sigma, spec.grid),
        "second moment": (spec.sigma, fine),
        "diagonal": (wide, fine),
        "sizes": (wide, spec.grid),
    }
    faults = []
    for name in made[0]:
        sigma, grid = laws[name]
        shown = np.concatenate([one[name][np.isfinite(one[name])] for one in made])
        # In float32: on the grid of a block every value is exact.
        column = shown.astype(np.float32)[:, np.newaxis]
        check = check_noise(column, np.zeros(1), sigma=sigma, grid=grid)
        faults += [f"{fault}: {name}" for fault in check.faults]
        if _share_noise(made[0][name], made[1][name]):
            faults.append(f"one noise in two data sets: {name}")
    classes_apart = made[0]["class sums"]
    if len(np.unique(classes_apart, axis=0)) < p or _share_noise(
        classes_apart[:-1], classes_apart[1:]
    ):
        faults.append("one noise in two classes")
    for one, two in itertools.combinations(made[0], 2):
        if _share_noise(made[0][one], made[0][two]):
            faults.append(f"one noise in two blocks: {one}, {two}")
    asked = (
        f"{_NOISE_RELEASES} releases of {p} numbers and classes: grid, law, classes, blocks, "
        "data sets"
    )
    return audit_fault_result("noise", "faults of the noise", faults, asked, seed)


def _numbers_of_each(release: SummedRelease, p: int) -> NDArray[np.float64]:
    """Return the numbers of each data set in one release: float64 [together, numbers]."""
    together = release.sums.shape[1] // p
    at = np.arange(together)
    sums = release.sums.reshape(together, SAMPLE_CLASSES, together, p)[at, :, at]
    blocks = [sums.reshape(together, -1)]
    if release.second is not None:
        second = release.second.reshape(together, p, together, p)[at, :, at]
        blocks.append(second[:, *np.triu_indices(SAMPLE_NUMBERS)])
    if release.sizes is not None:
        blocks.append(release.sizes.reshape(together, SAMPLE_CLASSES))
    return np.concatenate(blocks, axis=1)


def _noise_blocks(release: SummedRelease) -> dict[str, NDArray[np.float64]]:
    """Return the noise of each block of sums of one zero row, as it was drawn: [rows, numbers].

    NaN where a number was drawn and not used.
    """
    found = {"class sums": release.sums}
    if release.second is not None:
        unused = np.tri(len(release.second), dtype=np.bool_)
        found["second moment"] = np.where(unused, np.nan, release.second)
        found["diagonal"] = np.diag(release.second)[np.newaxis]
    if release.sizes is not None:
        known = np.zeros(len(release.sizes))
        known[0] = 1.0
        found["sizes"] = (release.sizes - known)[np.newaxis]
    return found


def _share_noise(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Tell whether numbers that stand at the same place of two blocks go together."""
    rows = min(len(one), len(other))
    both = np.isfinite(one[:rows]) & np.isfinite(other[:rows])
    first, second = one[:rows][both], other[:rows][both]
    # No noise at all is another fault, and goes with nothing.
    if not first.std() or not second.std():
        return False
    return abs(check_noise_correlation(first, second)) > _CORRELATED
