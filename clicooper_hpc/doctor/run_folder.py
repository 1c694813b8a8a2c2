"""Rules on the folder runs are written to, and on HDF5 in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from clicooper_hpc.doctor.diagnosis import Diagnosis
from clicooper_hpc.doctor.rank_facts import RankFacts
from clicooper_hpc.runstore.folder_probe import FolderFacts
from clicooper_hpc.runstore.hdf5.probe import Hdf5Facts

__all__ = ["judge_folder_locks", "judge_run_folders", "judge_shared_folder"]

_GIB = 2**30
_ANOTHER = "Give -o a folder on another file system"
_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "lustre", "beegfs", "ceph", "9p", "virtiofs", "afs")
_NO_LOCKS = "files cannot be locked"


def judge_run_folders(facts: Sequence[RankFacts]) -> Iterator[Diagnosis]:
    """Judge what the first rank of each host has tried out."""
    for rank in facts:
        host = rank.machine.host
        ranks = tuple(other.rank for other in facts if other.machine.host == host)
        # Only the first rank of each host has tried.
        if rank.folder is not None:
            yield from _folder(rank.folder, ranks)
            # What cannot be written has no locks to speak of.
            if not rank.folder.writing:
                yield judge_folder_locks(rank.folder.locking, rank.machine.hdf5_locking, ranks)
        if rank.hdf5 is not None:
            yield from _hdf5(rank.hdf5, ranks)


def _folder(facts: FolderFacts, ranks: tuple[int, ...]) -> Iterator[Diagnosis]:
    gib = facts.free_bytes / _GIB
    free = f"{gib:.1f}" if gib < 10 else f"{gib:.0f}"
    about = f"{facts.path} ({facts.kind or 'file system unknown'}, {free} GiB free)"
    if facts.writing or facts.renaming or facts.syncing:
        failed = facts.writing or facts.renaming or facts.syncing
        yield Diagnosis(
            "folder",
            "bad",
            f"{about} cannot hold a run: {failed}",
            f"{_ANOTHER} that you may write to and that has space",
            ranks,
        )
        return
    if facts.free_bytes < _GIB:
        yield Diagnosis(
            "folder",
            "warning",
            f"{about}: little space",
            "Free some, or give -o another folder",
            ranks,
        )
    else:
        word = _word(facts.kind)
        yield Diagnosis("folder", "ok", f"{about}{': ' if word else ''}{word}", "", ranks)
    if facts.syncing_folders:
        text = f"folders cannot be forced to the disk ({facts.syncing_folders}): files of the "
        text += "last seconds may lack after a power failure"
        yield Diagnosis("folder", "warning", text, _ANOTHER, ranks)
    # Bad, not a warning: private/ holds the noise key, which undoes the privacy of every release.
    if facts.keeps_rights:
        yield Diagnosis("rights", "ok", "private files and folders stay private", "", ranks)
    else:
        text = "access rights are not kept: others could read the owner's secrets"
        yield Diagnosis("rights", "bad", text, _ANOTHER, ranks)


def _word(kind: str) -> str:
    if kind in ("tmpfs", "ramfs"):
        return "in memory, gone when the machine stops"
    if kind == "overlay":
        return "inside a container, gone with it"
    if kind in _NETWORK or kind.startswith("fuse."):
        return "over the network; read a run when it is over, live rows may come late"
    return ""


def judge_folder_locks(
    failure: str, variable: str | None, ranks: tuple[int, ...] = ()
) -> Diagnosis:
    """Judge what HDF5 makes of a file system's locks.

    Parameters
    ----------
    failure
        "" if files can be locked, else the name of the error, as in "ENOLCK".
    variable
        Value of HDF5_USE_FILE_LOCKING, which overrules what programs ask for.
    ranks
        Ranks it holds for.
    """
    wish = (variable or "").upper()
    told = f"HDF5_USE_FILE_LOCKING={variable}" if variable else "HDF5_USE_FILE_LOCKING not set"
    if not failure:
        return Diagnosis("locks", "ok", f"files can be locked ({told})", "", ranks)
    text = f"{_NO_LOCKS} ({failure}, {told})"
    # "Best effort" puts up with ENOSYS alone.
    forced = wish in ("TRUE", "1") or (wish == "BEST_EFFORT" and failure != "ENOSYS")
    if forced:
        return Diagnosis(
            "locks",
            "bad",
            f"{text}: HDF5 will refuse all files",
            "export HDF5_USE_FILE_LOCKING=FALSE",
            ranks,
        )
    if wish in ("FALSE", "0") or failure == "ENOSYS":
        return Diagnosis("locks", "ok", f"{text}: HDF5 does without", "", ranks)
    return Diagnosis(
        "locks",
        "warning",
        f"{text}: runs do without, other programs will not open their files",
        "export HDF5_USE_FILE_LOCKING=FALSE",
        ranks,
    )


def _hdf5(facts: Hdf5Facts, ranks: tuple[int, ...]) -> Iterator[Diagnosis]:
    built = "parallel" if facts.parallel else "not parallel"
    about = f"HDF5 {facts.hdf5} ({built}), h5py {facts.h5py}"
    if facts.missing:
        yield Diagnosis(
            "hdf5",
            "bad",
            f"{about} lacks {' and '.join(facts.missing)}",
            "Install the h5py of PyPI or conda-forge, which has both",
            ranks,
        )
        return
    if facts.trial:
        yield Diagnosis(
            "hdf5", "bad", f"{about}: a live file failed: {facts.trial}", _ANOTHER, ranks
        )
        return
    done = "" if facts.trial is None else ": live files, gzip and checksums work"
    yield Diagnosis("hdf5", "ok", about + done, "", ranks)
    layouts = "shards or single" if not facts.not_single else f"shards; single: {facts.not_single}"
    yield Diagnosis("layouts", "ok", f"output.layout: {layouts}", "", ranks)


def judge_shared_folder(folder: str, answers: Sequence[str]) -> Iterator[Diagnosis]:
    """Judge whether all ranks see the file that rank 0 wrote.

    Parameters
    ----------
    folder
        Where it was written.
    answers
        Of every rank: "" if it read the file, else the reason why not.
    """
    blind = [rank for rank, answer in enumerate(answers) if answer]
    if not blind:
        yield Diagnosis("shared", "ok", f"all ranks see the files of rank 0 in {folder}")
    # One finding a rank: on some clusters only part of the nodes lacks the mount.
    for rank in blind:
        yield Diagnosis(
            "shared",
            "bad",
            f"a file that rank 0 wrote to {folder} is not seen here: {answers[rank]}",
            "Give -o a folder that all hosts share, by its full path",
            (rank,),
        )
