"""Views of whoever held the released sums of small images, for the tests of attacks on them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from steal_cases import NUMBERS, K, front, identity, mechanism

from clicooper_hpc.attacks.harness.adversary import Adversary, AdversaryView, LabelledImages
from clicooper_hpc.attacks.harness.recorded_sums import hold_class_sums, hold_moments
from clicooper_hpc.attacks.harness.summed_release import (
    RELEASE_HOLDERS,
    HeldRelease,
    SummedRelease,
)
from clicooper_hpc.config.owner_sections import ReleaseMode
from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.owner.make_moments import solve_summed_spec
from clicooper_hpc.privacy.class_sums import (
    class_sums_context,
    exact_class_sums,
    grid_class_sums,
)
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.moments import MomentSums, moments_context
from clicooper_hpc.privacy.release_spec import ReleaseSpec

__all__ = ["MODES", "exact_release", "holder", "spec_of"]

MODES: tuple[ReleaseMode, ...] = ("moments", "sums")


def spec_of(epsilon: float, dimension: int = NUMBERS, mode: ReleaseMode = "moments") -> ReleaseSpec:
    return solve_summed_spec(mode, dimension, epsilon=epsilon, delta=1e-5)


def exact_release(
    rows: NDArray[np.float64], classes: NDArray[np.int64], count: int, mode: ReleaseMode
) -> SummedRelease:
    """Sums of rows as they are, neither clipped nor noised."""
    hot = np.eye(count)[classes]
    if mode == "sums":
        return SummedRelease(hot.T @ rows, len(rows), 0.0)
    return SummedRelease(hot.T @ rows, len(rows), 0.0, second=rows.T @ rows, sizes=hot.sum(axis=0))


def held_release(
    train: LabelledImages, used: ReleaseSpec | None, mode: ReleaseMode, seed: int
) -> HeldRelease:
    rows, source = front(train.images), digest_bytes("test", b"sums")
    key = MasterKey.from_seed(seed)
    if mode == "moments":
        sums = MomentSums(K, NUMBERS, used)
        sums.add_rows(rows, train.classes)
        context = None if used is None else moments_context(source, source, used)
        return hold_moments(sums, context, key)
    if used is None:
        return hold_class_sums(exact_class_sums(rows, train.classes, K), len(train), None, key)
    whole = grid_class_sums(rows, train.classes, K, used)
    return hold_class_sums(whole, len(train), class_sums_context(source, source, used), key)


def holder(
    train: LabelledImages,
    epsilon: float | None,
    *,
    mode: ReleaseMode = "moments",
    seed: int = 0,
    noised_as: ReleaseSpec | None = None,
) -> AdversaryView:
    """A view of the released sums of ``train``, without noise if ``epsilon`` is None.

    ``noised_as``: the mechanism that is really used, where a fault is planted; mu stays what is
    claimed.
    """
    spec = None if epsilon is None else spec_of(epsilon, mode=mode)
    used = noised_as or spec
    mu = math.inf if spec is None else spec.mu
    return AdversaryView(
        adversary=Adversary(RELEASE_HOLDERS[mode], ()),
        rows=np.empty((0, NUMBERS), dtype=np.float32),
        sub_labels=np.empty(0, dtype=np.int32),
        groups=np.empty((0, 0), dtype=np.int64),
        sub_label_count=K,
        segments={},
        mechanism=replace(mechanism(0.0), spec=used, mu=mu),
        front=front,
        clip=identity,
        release=mode,
        held=held_release(train, used, mode, seed),
        samples=len(train),
    )
