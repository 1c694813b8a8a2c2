"""Files of a run are opened in one place: nowhere else may a link, a pipe or a bomb be met."""

from __future__ import annotations

import ast
from pathlib import Path

from structure import read_modules

ROOT = Path(__file__).resolve().parents[2]
#: Packages that are given a run folder.
PACKAGES = (
    "attacks",
    "audit",
    "commands",
    "inference",
    "launch",
    "owner",
    "packing",
    "report",
    "run",
    "runstore",
    "sweep",
    "trainer",
    "verification",
)
#: Calls that open or read a file by its path.
CALLS = {
    "open",
    "read_bytes",
    "read_text",
    "File",
    "safe_open",
    "load_file",
    "fromfile",
    "memmap",
    "mmap",
    "mkstemp",
    "fdopen",
    "copyfile",
    "copytree",
}
#: Modules that do, and why they may.
ALLOWED = {
    "runstore.regular_files": "the one opening of files that others may have made",
    "runstore.hdf5.reader": "HDF5 by the descriptor that regular_files opened",
    "runstore.hdf5.reading_note": "memory without a file",
    "runstore.hdf5.files": "writes: files in memory, and the writer's own file",
    "runstore.hdf5.parallel": "/proc/self/maps",
    "runstore.tables.single_writer": "writes: the file that rank 0 made",
    "runstore.attack_record": "writes: a file in memory",
    "runstore.account_file": "writes: one file, locked, of a path that the owner's job names",
    "runstore.atomic_files": "writes",
    "runstore.run_folder": "writes: the probe of a new folder, the lock",
    "runstore.folder_probe": "its own trial files, /proc/self/mountinfo",
    "runstore.index": "HDF5 bytes by the descriptor that regular_files opened",
    "runstore.saved_marker": "a few bytes of a file that need not be there, by its own rules",
    "runstore.hdf5.outline": "an object of an HDF5 file that is open already",
    "runstore.expected_files": "writes: a file in memory",
    "run.credentials": "key files that the user's own job names",
    "trainer.release_cache": "its own unnamed file",
    "inference.csv_predictions": "writes",
    "inference.npz_predictions": "writes",
    "report.trackers.tensorboard_events": "writes",
    "inference.exports.weights_folder": "the file it has just written",
    "packing.write_pack": "the files it has just written",
    "commands.init": "the package's own template; writes new files",
    "launch.rank_keeper": "/proc",
    "launch.run_start": "writes: a job that was given as a mapping",
}


def opening(tree: ast.AST) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            receiver = ast.unparse(called.value) if isinstance(called, ast.Attribute) else ""
            # Attributes and objects of an HDF5 file that is open already.
            if name in CALLS and receiver not in ("h5a", "h5o"):
                return True
    return False


def test_no_other_module_opens_a_file() -> None:
    found = set()
    for full, module in read_modules(ROOT).items():
        name = full.removeprefix("clicooper_hpc.")
        if name.split(".")[0] in PACKAGES and opening(module.tree):
            found.add(name)
    assert found == set(ALLOWED)
