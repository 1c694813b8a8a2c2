"""A private Slurm on this machine, for tests that submit real jobs: three nodes on loopback.

Its daemons are children of the test process and end with it; nothing of another Slurm is touched,
and its configuration, key, ports and logs are its own.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

__all__ = ["MISSING", "SlurmCluster", "private_slurm", "until"]

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "setpriv")
#: Programs that are not installed.
MISSING = [
    name for name in _PROGRAMS if shutil.which(name, path="/usr/sbin:" + os.environ["PATH"]) is None
]
_ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}
_NODES = ("n1", "n2", "n3")

# Nothing is put into cgroups, and nodes may claim more cores than there are. TmpFS has a folder for
# each node, or `srun --mpi=pmix` over several of them fails. With cred_expire a requeued job waits
# seconds, not minutes; with MinJobAge a job that ended can still be asked for. Job numbers are not
# those of the last session: MPICH names its shared memory by job and step, and hangs in MPI_Init on
# what a killed step of that name left behind.
_CONF = """\
ClusterName=tests
SlurmctldHost=localhost(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmctldPort={controller}
FirstJobId={first}
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
TmpFS={folder}/tmp.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
MailProg=/bin/true
SlurmctldTimeout=30
SlurmdTimeout=15
KillWait=5
MinJobAge=3600
ReturnToService=2
SchedulerParameters=bf_interval=1,sched_interval=1
MpiDefault=none
{nodes}
PartitionName=debug Nodes=n[1-3] Default=YES MaxTime=INFINITE State=UP
"""
_NODE = (
    "NodeName={name} NodeHostName=localhost NodeAddr=127.0.0.1 Port={port} CPUs=8 Boards=1 "
    "SocketsPerBoard=1 CoresPerSocket=8 ThreadsPerCore=1 RealMemory=6000 State=UNKNOWN"
)


def until(
    what: str, condition: Callable[[], bool], *, timeout_s: float = 60.0, every_s: float = 0.2
) -> None:
    """Wait for ``condition``; `AssertionError` naming ``what`` if it does not come."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"not within {timeout_s:g} s: {what}"
        time.sleep(every_s)


class SlurmCluster:
    """Commands to the private Slurm.

    Parameters
    ----------
    folder
        Where its configuration and logs lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        own = Path(sys.executable).parent
        outside = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH"))}
        #: For everything that talks to it, `clicooper submit` too.
        self.env = {
            **outside,
            "PATH": f"{own}:/usr/sbin:{os.environ['PATH']}",
            "SLURM_CONF": str(folder / "slurm.conf"),
            "OMP_NUM_THREADS": "1",
        }

    def call(
        self, *command: str, check: bool = True, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run ``command`` and return what it says."""
        done = subprocess.run(
            command,
            env=self.env,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def submit(self, text: str, folder: Path, *options: str) -> str:
        """Submit a script made of ``text``, which starts in ``folder``; return the job number."""
        script = folder / "job.sbatch"
        script.write_text(f"#!/bin/bash\n{text}\n")
        return self.call("sbatch", "--parsable", *options, str(script), cwd=folder).stdout.strip()

    def show(self, job: str) -> dict[str, str]:
        """Return what ``scontrol show job`` says; of an array name one task, ``"7_0"``."""
        line = self.call("scontrol", "--oneliner", "show", "job", job).stdout
        return dict(word.split("=", 1) for word in line.split() if "=" in word)

    def log(self, job: str) -> str:
        """Return what the job wrote so far."""
        path = Path(self.show(job)["StdOut"])
        return path.read_text(errors="replace") if path.exists() else ""

    def wait(self, job: str, *states: str, timeout_s: float = 300.0) -> dict[str, str]:
        """Wait until the job is in one of ``states`` and return what Slurm says of it then.

        A job that ends in another state fails at once, with its log.
        """
        wanted = {*states}
        shown: dict[str, str] = {}

        def there() -> bool:
            nonlocal shown
            shown = self.show(job)
            return shown["JobState"] in wanted | _ENDED

        try:
            until(f"job {job} is {' or '.join(states)}", there, timeout_s=timeout_s)
            assert shown["JobState"] in wanted, shown
        except AssertionError as error:
            error.add_note(self.log(job)[-4000:])
            raise
        return shown

    def cancel(self, job: str, *options: str) -> None:
        """``scancel``; with ``"--signal=USR1"`` and the like as option, only a signal."""
        self.call("scancel", *options, job)

    def requeue(self, job: str) -> None:
        """End the job and put it back into the queue, under its number."""
        self.call("scontrol", "requeue", job)

    def clear(self) -> None:
        """Cancel all jobs and wait until none is left."""
        user = f"--user={psutil.Process().username()}"
        # Those that wait first: a job that ends makes room for them.
        self.call("scancel", user, "--state=PENDING")
        self.call("scancel", user)
        queue = ("squeue", "--noheader")
        until("no job is left", lambda: not self.call(*queue).stdout.strip())

    def processes(self, job: str) -> list[psutil.Process]:
        """Return the live processes that belong to the job, on all nodes."""
        return [p for p, env in self._children() if env.get("SLURM_JOB_ID") == job]

    def rank(self, job: str, rank: int) -> psutil.Process:
        """Return the process of one rank of the job's `clicooper run` (or `clicooper-...`)."""
        (found,) = (
            process
            for process, env in self._children()
            if env.get("SLURM_JOB_ID") == job
            and env.get("OMPI_COMM_WORLD_RANK", env.get("SLURM_PROCID")) == str(rank)
            and process.name().startswith("clicooper")
        )
        return found

    def _children(self) -> Iterator[tuple[psutil.Process, dict[str, str]]]:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                env = process.environ()
                dead = process.status() == psutil.STATUS_ZOMBIE
                if env.get("SLURM_CONF") == self.env["SLURM_CONF"] and not dead:
                    yield process, env


@contextlib.contextmanager
def private_slurm() -> Iterator[SlurmCluster]:
    """Start the daemons, wait for the nodes, and end all of it whatever happens.

    SIGTERM, by which CI stops what takes too long, ends the test session like Ctrl-C meanwhile.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Not pytest's folder: the path of a socket may have no more than 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="clicooper-slurm-"))
    folder.chmod(0o755)  # munged wants its socket where everybody can reach it
    cluster = SlurmCluster(folder)
    _configure(folder)
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        try:
            _start(cluster, daemons)
        except AssertionError as error:
            for log in folder.glob("*.log"):
                error.add_note(f"{log.name}: {log.read_text()[-2000:]}")
            raise
        yield cluster
    finally:
        _end(cluster, daemons)
        shutil.rmtree(folder)
        signal.signal(signal.SIGTERM, before)


def _start(cluster: SlurmCluster, daemons: list[subprocess.Popen[bytes]]) -> None:
    daemons.append(_daemon(cluster, "munged", _munged(cluster.folder)))
    until("munge answers", (cluster.folder / "munge.socket").exists, timeout_s=20)
    daemons.append(_daemon(cluster, "slurmctld", ["slurmctld", "-D"]))
    daemons += [_daemon(cluster, f"slurmd-{n}", ["slurmd", "-D", "-N", n]) for n in _NODES]
    idle = ("sinfo", "--noheader", "--format=%D", "--states=idle")
    until(
        "all nodes are idle",
        lambda: cluster.call(*idle, check=False).stdout.strip() == str(len(_NODES)),
    )


def _configure(folder: Path) -> None:
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(32))
    (folder / "state").mkdir()
    controller, *ports = _free_ports(1 + len(_NODES))
    for name in _NODES:
        (folder / f"spool.{name}").mkdir()
        (folder / f"tmp.{name}").mkdir()
    (folder / "slurm.conf").write_text(
        _CONF.format(
            user=psutil.Process().username(),
            folder=folder,
            controller=controller,
            first=secrets.randbelow(50_000_000) + 1,
            nodes="\n".join(
                _NODE.format(name=name, port=port) for name, port in zip(_NODES, ports, strict=True)
            ),
        )
    )


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _munged(folder: Path) -> list[str]:
    options = ("key-file=munge.key", "socket=munge.socket", "pid-file=munge.pid", "seed-file=seed")
    places = (f"--{name}={folder}/{value}" for name, value in (o.split("=") for o in options))
    return ["munged", "--foreground", *places]


def _daemon(cluster: SlurmCluster, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a daemon in the foreground; it is told to end when this process is gone."""
    with (cluster.folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig=TERM", *command],
            env=cluster.env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _end(cluster: SlurmCluster, daemons: Sequence[subprocess.Popen[bytes]]) -> None:
    with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
        cluster.clear()
    for daemon in reversed(daemons):
        daemon.terminate()
        try:
            daemon.wait(15)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
    # What a daemon left that had to be killed: all that runs with this cluster's configuration.
    for process, _ in cluster._children():
        process.kill()
