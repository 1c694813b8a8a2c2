"""Views of whoever held the moments of small images, for the tests of attacks on moments."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from steal_cases import NUMBERS, K, front, identity, mechanism

from clicooper_hpc.attacks.harness.adversary import (
    MOMENTS_HOLDER,
    Adversary,
    AdversaryView,
    LabelledImages,
)
from clicooper_hpc.attacks.harness.recorded_moments import hold_moments
from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.moments import MomentSums, moments_context, solve_moments_spec
from clicooper_hpc.privacy.release_spec import ReleaseSpec

__all__ = ["holder", "spec_of"]


def spec_of(epsilon: float, dimension: int = NUMBERS) -> ReleaseSpec:
    return solve_moments_spec(dimension, epsilon=epsilon, delta=1e-5)


def holder(
    train: LabelledImages,
    epsilon: float | None,
    *,
    seed: int = 0,
    noised_as: ReleaseSpec | None = None,
) -> AdversaryView:
    """A view of the moments of ``train``, without noise if ``epsilon`` is None.

    ``noised_as``: the mechanism that is really used, where a fault is planted; mu stays what is
    claimed.
    """
    spec = None if epsilon is None else spec_of(epsilon)
    used = noised_as or spec
    sums = MomentSums(K, NUMBERS, used)
    sums.add_rows(front(train.images), train.classes)
    source = digest_bytes("test", b"moments")
    context = None if used is None else moments_context(source, source, used)
    mu = math.inf if spec is None else spec.mu
    return AdversaryView(
        adversary=Adversary(MOMENTS_HOLDER, ()),
        rows=np.empty((0, NUMBERS), dtype=np.float32),
        sub_labels=np.empty(0, dtype=np.int32),
        groups=np.empty((0, 0), dtype=np.int64),
        sub_label_count=K,
        segments={},
        mechanism=replace(mechanism(0.0), spec=used, mu=mu),
        front=front,
        clip=identity,
        release="moments",
        moments=hold_moments(sums, context, MasterKey.from_seed(seed)),
    )
