"""The mechanism of a run: its guarantee, solved for the noise, and a releaser for each split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from clicooper_hpc.config.job import Job
from clicooper_hpc.data.split import Split
from clicooper_hpc.digests import Digest, digest_bytes
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.noise import NoiseStream, ReleaseContext
from clicooper_hpc.privacy.release_spec import ReleaseSpec, solve_release_spec
from clicooper_hpc.privacy.row_releaser import GaussianReleaser, PlainReleaser, RowReleaser
from clicooper_hpc.privacy.sensitivity import Guarantee

__all__ = ["ReleaseMechanism", "mechanism_guarantee", "solve_release_mechanism"]


@dataclass(frozen=True, slots=True)
class ReleaseMechanism:
    """What turns the front's rows into released ones.

    Attributes
    ----------
    spec
        The solved guarantee; None with privacy off.
    releasers
        By split: clip, noise and round with the noise of that split.
    contexts
        By split: the digest that names the release, and keys its noise and receipts.
    """

    spec: ReleaseSpec | None
    releasers: Mapping[str, RowReleaser]
    contexts: Mapping[str, Digest]


def mechanism_guarantee(job: Job, front_shape: tuple[int, ...], *, non_negative: bool) -> Guarantee:
    """Return the promise of the job's [privacy] section for rows of ``front_shape``."""
    privacy = job.privacy
    return Guarantee(
        unit=privacy.unit,
        relation=privacy.relation,
        clip=privacy.clip,
        dimension=int(np.prod(front_shape)),
        epsilon=privacy.epsilon,
        delta=privacy.delta,
        non_negative=non_negative,
        metric_distance=privacy.metric_distance,
    )


def solve_release_mechanism(
    job: Job, front: Front, splits: Mapping[str, Split], master: MasterKey
) -> ReleaseMechanism:
    """Solve the job's guarantee for rows of ``front``, and key the noise of every split."""
    spec = None
    if job.privacy.enabled:
        promise = mechanism_guarantee(job, front.output_shape, non_negative=front.non_negative)
        # For the rows the front really makes: its shape and sign decide the sensitivity.
        spec = solve_release_spec(promise)
    releasers: dict[str, RowReleaser] = {}
    contexts: dict[str, Digest] = {}
    for name, split in splits.items():
        if spec is None:
            named = f"{name} {front.digest}".encode()
            releasers[name] = PlainReleaser()
            contexts[name] = digest_bytes("clicooper/v1/plain-release", named)
            continue
        # The noise is bound to front and data: the same noise on other rows would show, by the
        # difference of two releases, how the clean rows differ.
        context = ReleaseContext(name, front.digest, split.fingerprint(), spec)
        releasers[name] = GaussianReleaser(spec, NoiseStream(master, context))
        contexts[name] = context.digest()
    return ReleaseMechanism(spec, releasers, contexts)
