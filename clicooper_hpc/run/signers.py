"""All that proofs need before training: identities agreed by all ranks, and the plan of marks."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from clicooper_hpc.config.job import Job
from clicooper_hpc.errors import EvidenceError, UsageError
from clicooper_hpc.pipeline.layout import Layout
from clicooper_hpc.provenance.identity import KEY_BYTES, PublicIdentity
from clicooper_hpc.provenance.marks.mark_plan import MarkPlan, plan_mark
from clicooper_hpc.run.agreement import agree
from clicooper_hpc.run.credentials import Credentials, check_allowed, obtain_credentials
from clicooper_hpc.run.environment import versions
from clicooper_hpc.runstore.run_folder import RunFolder
from clicooper_hpc.training.replay_conditions import conditions
from clicooper_hpc.transport.world import World

__all__ = ["Signers", "agree_on_signers", "environment_of"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Signers:
    """Secrets of one rank, everybody's public keys (owner first), and how this rank marks."""

    credentials: Credentials
    keys: tuple[PublicIdentity, ...]
    mark: MarkPlan | None


def agree_on_signers(
    world: World,
    job: Job,
    folder: RunFolder,
    network: tuple[nn.Sequential, Layout],
    *,
    earlier: bool = False,
) -> Signers | None:
    """Obtain keys on all ranks and let all know all public ones; None without provenance.

    ``earlier``: the run has lived before, so no key is made.

    Raises
    ------
    AgreedFailure
        A key is missing or not the job's, or a mark is required that a segment cannot carry.
    """
    if not job.provenance.enabled:
        return None
    startup_s = job.pipeline.startup_timeout_s

    def mine() -> tuple[Credentials, MarkPlan | None]:
        credentials = obtain_credentials(job, folder.private, world.rank, earlier=earlier)
        plan = None if world.rank == 0 else _mark_plan(job, world.rank, *network)
        return credentials, plan

    credentials, plan = agree(world, mine, deadline_s=startup_s)
    parts = world.gather_bytes(
        credentials.identity.public.raw, limit_bytes=KEY_BYTES, deadline_s=startup_s
    )
    shared = world.broadcast_bytes(
        None if parts is None else b"".join(parts),
        limit_bytes=KEY_BYTES * world.size,
        deadline_s=startup_s,
    )

    def checked() -> tuple[PublicIdentity, ...]:
        keys = tuple(
            PublicIdentity.from_raw(shared[start : start + KEY_BYTES])
            for start in range(0, len(shared), KEY_BYTES)
        )
        if len(keys) != world.size or keys[world.rank] != credentials.identity.public:
            raise EvidenceError("the owner passed on another key than this rank's")
        check_allowed(job, keys)
        return keys

    return Signers(credentials, agree(world, checked, deadline_s=startup_s), plan)


def environment_of(world: World, device: torch.device) -> Mapping[str, str]:
    """Return what a replay to the bit would have to match."""
    return {
        **conditions(device),
        **{f"{library}-version": version for library, version in versions().items()},
        "host": world.processors[world.rank],
        "mpi": world.library[:200],
        "python-version": platform.python_version(),
    }


def _mark_plan(job: Job, rank: int, model: nn.Sequential, layout: Layout) -> MarkPlan | None:
    wish = job.provenance.marks
    if wish == "off":
        return None
    state = layout.layers_of(model, rank - 1).state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    try:
        return plan_mark(shapes, distortion=job.provenance.mark_distortion)
    except UsageError as error:
        if wish == "required":
            raise UsageError(f"segment {rank}: {error.what}", remedy=error.remedy) from None
        _log.warning("segment %d carries no mark: %s", rank, error.what)
        return None
