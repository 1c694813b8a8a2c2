"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Helpers of the tests, and the experiments of bench/ that tests/bench tests.
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench")]

# In the background of a shell, or under nohup, they are ignored, also by all that tests start.
for ignored in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(ignored) is signal.SIG_IGN:
        signal.signal(ignored, signal.default_int_handler)

from slurm_cluster import MISSING, SlurmCluster, private_slurm  # noqa: E402

NO_SLURM = f"no {', '.join(MISSING)} on this machine; " if MISSING else ""


@pytest.fixture(scope="session")
def slurm_session() -> Iterator[SlurmCluster]:
    """A private Slurm of three nodes; only `make test-cluster` asks for it, and then it must be."""
    if os.environ.get("CLICOOPER_CLUSTER") != "1":
        pytest.skip(f"{NO_SLURM}make test-cluster (CLICOOPER_CLUSTER=1) starts a Slurm")
    if MISSING:
        pytest.fail(f"{NO_SLURM}apt-get install slurm-wlm munge libpmi2-0")
    with private_slurm() as cluster:
        yield cluster


@pytest.fixture
def slurm(slurm_session: SlurmCluster) -> Iterator[SlurmCluster]:
    """The private Slurm, without jobs before and after the test."""
    yield slurm_session
    slurm_session.clear()


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with the optional CIFAR files; the test is skipped when it is missing."""
    place = Path(os.environ.get("CLICOOPER_SHARED", ROOT.parent / "shared"))
    if not (place / "data" / "cifar10.h5").is_file():
        pytest.skip(f"no CIFAR files in {place} (set CLICOOPER_SHARED)")
    return place


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute on one thread, as a run has by default: sums depend on how they are split."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
