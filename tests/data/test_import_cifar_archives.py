"""CIFAR binary archives: what goes in comes out, and every damage is named."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from data_builders import (
    ROWS,
    cifar_files,
    cifar_rows,
    import_fails,
    small,
    write_folder,
    write_tar,
)

from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.data.importers import archive_members
from clicooper_hpc.data.importers import import_dataset as import_module
from clicooper_hpc.data.importers.cifar import CIFAR10, CIFAR100, CifarLayout
from clicooper_hpc.data.importers.import_dataset import import_dataset

LAYOUTS = {"cifar10": small(CIFAR10), "cifar100": small(CIFAR100)}
ENTRY = {"cifar10": 3073, "cifar100": 3074}


@pytest.fixture(params=sorted(LAYOUTS))
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(autouse=True)
def _small_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module, "CIFAR10", LAYOUTS["cifar10"])
    monkeypatch.setattr(import_module, "CIFAR100", LAYOUTS["cifar100"])


def _check(path: Path, layout: CifarLayout, content: dict[str, bytes]) -> None:
    with open_dataset(path) as data:
        assert data.num_classes == layout.label_classes[-1]
        assert data.class_names[3] == "class 3"
        for split in ("train", "test"):
            parts = [cifar_rows(layout, content[f]) for s, f, _ in layout.files if s == split]
            x = np.concatenate([part[0] for part in parts])
            y = np.concatenate([part[1] for part in parts])
            got = data.split(split)
            assert got.row_shape == (32, 32, 3)
            assert np.array_equal(got.labels(), y)
            rows = got.read(np.arange(len(y)))
            assert np.array_equal(np.rint(rows * 255), x.transpose(0, 3, 1, 2))


def test_archive_round_trip(tmp_path: Path, kind: str) -> None:
    content = cifar_files(LAYOUTS[kind])
    source = write_tar(tmp_path / "cifar.tar.gz", content)
    summary = import_dataset(kind, source, tmp_path / "out.h5")
    _check(tmp_path / "out.h5", LAYOUTS[kind], content)
    train = 5 * ROWS if kind == "cifar10" else ROWS
    assert summary.rows == {"train": train, "test": ROWS}
    assert (summary.row_shape, summary.dtype) == ((32, 32, 3), "uint8")
    assert summary.file_bytes == (tmp_path / "out.h5").stat().st_size


@pytest.mark.parametrize("around", [False, True])
def test_folder_round_trip(tmp_path: Path, kind: str, around: bool) -> None:
    content = cifar_files(LAYOUTS[kind])
    folder = write_folder(tmp_path / "data" / "batches-bin", content)
    import_dataset(kind, folder.parent if around else folder, tmp_path / "out.h5")
    _check(tmp_path / "out.h5", LAYOUTS[kind], content)


def test_archive_and_folder_give_the_same_data(tmp_path: Path, kind: str) -> None:
    content = cifar_files(LAYOUTS[kind])
    sources = (write_tar(tmp_path / "a.tar.gz", content), write_folder(tmp_path / "b", content))
    prints = []
    for source in sources:
        import_dataset(kind, source, tmp_path / "out.h5", overwrite=True)
        with open_dataset(tmp_path / "out.h5") as data:
            prints.append([data.split(s).fingerprint() for s in ("train", "test")])
    assert prints[0] == prints[1]


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_cut_archive(tmp_path: Path, kind: str, keep: float) -> None:
    source = write_tar(tmp_path / "c.tar.gz", cifar_files(LAYOUTS[kind]))
    whole = source.read_bytes()
    source.write_bytes(whole[: int(keep * len(whole))])
    import_fails(kind, source, "c.tar.gz, near byte", "cut short")


def test_one_flipped_bit_in_an_archive(tmp_path: Path, kind: str) -> None:
    """A changed pixel byte may still unpack: only the checksum at the end tells."""
    source = write_tar(tmp_path / "c.tar.gz", cifar_files(LAYOUTS[kind]))
    content = bytearray(source.read_bytes())
    content[len(content) // 2] ^= 1
    source.write_bytes(content)
    import_fails(kind, source, "c.tar.gz, near byte", "is damaged")


def test_not_an_archive(tmp_path: Path, kind: str) -> None:
    source = tmp_path / "c.tar.gz"
    source.write_bytes(b"<html>404</html>" * 100)
    import_fails(kind, source, "c.tar.gz", "Not a gzipped file")
    source.write_bytes(b"")
    import_fails(kind, source, "c.tar.gz")


def test_label_out_of_range_names_member_and_byte(tmp_path: Path, kind: str) -> None:
    layout, entry = LAYOUTS[kind], ENTRY[kind]
    content = cifar_files(layout)
    name = layout.files[0][1]
    label = len(layout.label_classes) - 1
    damaged = bytearray(content[name])
    damaged[17 * entry + label] = layout.label_classes[-1]
    content[name] = bytes(damaged)
    source = write_tar(tmp_path / "c.tar.gz", content)
    place = f"member batches-bin/{name}, byte {17 * entry + label}"
    import_fails(kind, source, place, f"label {layout.label_classes[-1]}", "row 17")


def test_coarse_label_out_of_range(tmp_path: Path) -> None:
    content = cifar_files(LAYOUTS["cifar100"])
    content["test.bin"] = bytes((20, 0)) + content["test.bin"][2:]
    source = write_folder(tmp_path / "c", content)
    import_fails("cifar100", source, "test.bin, byte 0", "label 20 is outside 0..19")


@pytest.mark.parametrize("change", [-1, -3073, 1])
def test_member_of_wrong_size(tmp_path: Path, change: int) -> None:
    content = cifar_files(LAYOUTS["cifar10"])
    data = content["data_batch_4.bin"]
    content["data_batch_4.bin"] = data[:change] if change < 0 else data + b"x"
    for source in (
        write_tar(tmp_path / "c.tar.gz", content),
        write_folder(tmp_path / "c", content),
    ):
        import_fails("cifar10", source, "data_batch_4.bin", f"{ROWS * 3073 + change:,} bytes")


@pytest.mark.parametrize("missing", ["data_batch_3.bin", "test_batch.bin", "batches.meta.txt"])
def test_missing_member(tmp_path: Path, missing: str) -> None:
    content = cifar_files(LAYOUTS["cifar10"])
    del content[missing]
    source = write_tar(tmp_path / "c.tar.gz", content)
    import_fails("cifar10", source, "c.tar.gz", f"holds no file called {missing}")


def test_member_twice(tmp_path: Path) -> None:
    content = cifar_files(LAYOUTS["cifar10"])
    content["copy/data_batch_1.bin"] = content["data_batch_1.bin"]
    source = write_tar(tmp_path / "c.tar.gz", content)
    import_fails("cifar10", source, "2 files called data_batch_1.bin")


def test_wrong_number_of_names(tmp_path: Path) -> None:
    content = cifar_files(LAYOUTS["cifar10"]) | {"batches.meta.txt": b"cat\ndog\n"}
    source = write_tar(tmp_path / "c.tar.gz", content)
    import_fails("cifar10", source, "batches.meta.txt", "2 class names, expected 10")


def test_the_other_cifar_and_the_python_version_are_recognised(tmp_path: Path) -> None:
    source = write_tar(tmp_path / "c.tar.gz", cifar_files(LAYOUTS["cifar100"]))
    import_fails("cifar10", source, "c.tar.gz", "is CIFAR-100, not CIFAR-10")
    pickled = {"batches.meta": b"\x80", "data_batch_1": b"\x80"}
    source = write_tar(tmp_path / "p.tar.gz", pickled, "cifar-10-batches-py")
    import_fails("cifar10", source, "p.tar.gz", "Python version", "binary version")


def test_an_archive_cannot_write_or_read_outside_itself(tmp_path: Path) -> None:
    """Paths that climb out and links are just names: nothing is unpacked, no link is followed."""
    content = cifar_files(LAYOUTS["cifar10"])
    (tmp_path / "secret").write_bytes(content["data_batch_1.bin"])
    source = tmp_path / "evil.tar.gz"
    with tarfile.open(source, "w:gz") as archive:
        for name, data in content.items():
            info = tarfile.TarInfo(f"../../{name}")
            if name == "data_batch_1.bin":
                info.type, info.linkname = tarfile.SYMTYPE, str(tmp_path / "secret")
                archive.addfile(info)
            else:
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    before = sorted(tmp_path.parent.rglob("*.bin"))
    import_fails("cifar10", source, "no file called data_batch_1.bin")
    assert sorted(tmp_path.parent.rglob("*.bin")) == before


def test_published_sizes() -> None:
    """The sizes the data page states: 30,730,000 bytes a CIFAR-10 batch, 3074 an entry of 100."""
    assert CIFAR10.entry_bytes * CIFAR10.files[0][2] == 30_730_000
    assert CIFAR100.entry_bytes == 3074
    assert sum(rows for split, _, rows in CIFAR100.files if split == "train") == 50_000
    assert sum(rows for split, _, rows in CIFAR10.files if split == "train") == 50_000


def test_an_archive_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = cifar_files(LAYOUTS[kind])
    source = write_tar(tmp_path / "c.tar.gz", {**content, "zeros": bytes(4 * 2**20)})
    monkeypatch.setattr(archive_members, "_MOST_UNPACKED", 2**21)
    import_fails(kind, source, "unpacks to more than 2,097,152 bytes")


def test_an_archive_of_too_many_files_is_refused(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = cifar_files(LAYOUTS[kind])
    source = write_tar(tmp_path / "c.tar.gz", {**content, **{str(i): b"" for i in range(20)}})
    monkeypatch.setattr(archive_members, "_MOST_MEMBERS", 20)
    import_fails(kind, source, "holds more than 20 files")


def test_class_names_with_control_characters_are_refused(tmp_path: Path, kind: str) -> None:
    content = cifar_files(LAYOUTS[kind])
    name = LAYOUTS[kind].names_file
    content[name] = content[name].replace(b"class 1\n", b"class \x1b[2J\n")
    import_fails(kind, write_folder(tmp_path / "c", content), "class names", "control characters")
