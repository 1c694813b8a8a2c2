"""Nothing secret leaves the owner: every recorded byte and every file outside private/ is searched.

Each secret is first found where it must be, so that the search is known to work.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file
from start import train

from clicooper_hpc.config.job import Job
from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.data.importers.import_dataset import import_dataset
from clicooper_hpc.owner.release_setup import ReleaseSetup, set_up_release
from clicooper_hpc.owner.samples import split_samples
from clicooper_hpc.runstore.confusion_file import read_class_figures
from clicooper_hpc.runstore.private_folder import PrivateFolder
from clicooper_hpc.runstore.reader import Run

pytestmark = pytest.mark.mpi


def private_bytes(run: Run) -> bytes:
    return b"\n".join(path.read_bytes() for path in private_files(run))


def private_files(run: Run) -> list[Path]:
    return sorted(path for path in run.folder.private.rglob("*") if path.is_file())


def public_bytes(run: Run) -> Iterator[tuple[str, bytes]]:
    """Yield every file outside private/, raw, and every HDF5 dataset uncompressed."""
    for path in sorted(run.folder.path.rglob("*")):
        if not path.is_file() or run.folder.private in path.parents:
            continue
        yield path.name, path.read_bytes()
        if path.suffix == ".h5":
            with h5py.File(path) as file:
                found: list[tuple[str, bytes]] = []

                def collect(name: str, item: object, out: list[tuple[str, bytes]] = found) -> None:
                    if isinstance(item, h5py.Dataset):
                        out.append((name, np.asarray(item[()]).tobytes()))

                file.visititems(collect)
            yield from ((f"{path.name}:{name}", content) for name, content in found)


def needles(run: Run) -> dict[str, list[bytes]]:
    """Return the secrets of a run as byte strings of at least 24 bytes."""
    job = Job.model_validate(run.job)
    preparation: ReleaseSetup = set_up_release(job, PrivateFolder(run.folder.private))
    with open_dataset(job.data.path) as data:
        splits = split_samples(job, data)
        raw = {name: split.read(np.arange(len(split))) for name, split in splits.items()}
        labels = {name: split.labels() for name, split in splits.items()}
    front = {name: preparation.front.apply(rows) for name, rows in raw.items()}
    key = (run.folder.private / "master.key").read_bytes()[-32:]
    label_map = load_file(run.folder.private / "label-map.safetensors")
    permutation = label_map["permutation"]
    figures = read_class_figures(run)
    assert figures is not None
    ranks = [run.folder.private / f"rank-{rank:03d}" for rank in run.ranks]
    masters = [(folder / "mark.key").read_bytes() for folder in ranks]
    identities = [(folder / "identity.pem").read_bytes() for folder in ranks]
    return {
        "noise key": [key],
        "mark secrets": [spelt for master in masters for spelt in (master, master.hex().encode())],
        "counts by class": [figures.confusion.counts.tobytes()],
        "private keys": [pem.splitlines()[1][-44:] for pem in identities],
        "front weights": [
            tensor.numpy().tobytes()[:64]
            for tensor in preparation.front.front_tensors().values()
            if len(set(tensor.numpy().tobytes()[:64])) > 16  # not a row of zeros or ones
        ],
        "label map": [
            label_map["spread_key"].tobytes(),
            *[permutation.astype(kind).tobytes() for kind in ("<i8", "<i4", "<f4", "<f8")],
        ],
        "raw samples": [row.tobytes()[64:192] for rows in raw.values() for row in rows],
        "clean rows": [row.tobytes() for rows in front.values() for row in rows],
        "true labels": [
            classes[:24].astype(kind).tobytes()
            for classes in labels.values()
            for kind in ("u1", "<i4", "<i8", "<f4")
            if len(classes) >= 24
        ],
    }


@pytest.mark.parametrize(
    "labels",
    [
        ["labels.method=random"],
        pytest.param(
            ["labels.method=anchors", "labels.expansion=8", "data.train_rows=180"],
            marks=pytest.mark.matrix,
        ),
        # 12 of the 60 training samples are spent: nothing of them may leave in any form.
        pytest.param(
            ['front.projection="private-lda"', 'front.public_data="public.h5"'],
            marks=pytest.mark.matrix,
        ),
        # No row of a sample may leave at all.
        pytest.param(
            [
                'front.projection="pca"',
                'front.public_data="public.h5"',
                'release.mode="moments"',
                "labels.expansion=1",
                "data.validation_rows=0",
            ],
            marks=pytest.mark.matrix,
        ),
    ],
    ids=["random", "anchors", "private-lda", "moments"],
)
def test_no_secret_in_any_message_or_public_file(tmp_path: Path, labels: list[str]) -> None:
    public = np.random.default_rng(0).integers(0, 256, (200, 8, 8), dtype=np.uint8)
    classes = np.arange(200) % 5
    np.savez(
        tmp_path / "public.npz", x_train=public, x_test=public, y_train=classes, y_test=classes
    )
    import_dataset("npz", tmp_path / "public.npz", tmp_path / "public.h5")
    run = train(tmp_path, 3, *labels, "release.cache=disk")
    for part in ("front_accuracy", "network_accuracy"):
        assert (part in run.results) == any("private-lda" in one for one in labels)
    wanted = needles(run)
    hidden = private_bytes(run)
    for kind in (
        "noise key",
        "front weights",
        "label map",
        "mark secrets",
        "private keys",
        "counts by class",
    ):
        assert any(needle in hidden for needle in wanted[kind]), f"{kind}: the search finds nothing"
    wires = [name for name, content in public_bytes(run) if name.endswith(".wire") and content]
    assert wires == ["rank-000.wire", "rank-001.wire", "rank-002.wire"]
    searched = 0
    for name, content in public_bytes(run):
        searched += len(content)
        for kind, secrets in wanted.items():
            assert not any(needle in content for needle in secrets), f"{kind} in {name}"
    assert searched > 100_000


@pytest.mark.matrix
def test_the_search_finds_a_row_that_leaves_clean(tmp_path: Path) -> None:
    run = train(tmp_path, 2, "privacy.enabled=false")
    clean = needles(run)["clean rows"]
    wire = (run.folder.path / "wire" / "rank-000.wire").read_bytes()
    assert sum(row in wire for row in clean) == 80


def test_private_files_are_the_owners_alone(tmp_path: Path) -> None:
    run = train(tmp_path, 2)
    assert run.folder.private.stat().st_mode & 0o777 == 0o700
    files = private_files(run)
    assert {"identity.pem", "mark.key", "master.key"} <= {path.name for path in files}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)
    folders = {path.parent for path in files}
    assert all(folder.stat().st_mode & 0o777 == 0o700 for folder in folders)
