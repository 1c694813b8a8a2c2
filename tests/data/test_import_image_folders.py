"""Image folders: both layouts, the held-out part, sizes and colours, and every damage."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_builders import import_fails
from PIL import Image

from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.data.importers.image_tree import list_image_tree
from clicooper_hpc.data.importers.import_dataset import import_dataset

CLASSES = ("ant", "bee", "cow")


def _image(path: Path, seed: int, mode: str = "RGB", size: tuple[int, int] = (6, 5)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    channels: tuple[int, ...] = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], *channels))
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def _classes(root: Path, count: int, seed: int = 0, **options: Any) -> Path:
    for number, name in enumerate(CLASSES):
        for i in range(count):
            _image(root / name / f"{i:03d}.png", seed + 1000 * number + i, **options)
    return root


def _split_tree(root: Path, **options: Any) -> Path:
    _classes(root / "train", 4, **options)
    _classes(root / "test", 2, seed=500, **options)
    return root


def test_train_and_test_folders_round_trip(tmp_path: Path) -> None:
    source = _split_tree(tmp_path / "set")
    summary = import_dataset("folder", source, tmp_path / "out.h5")
    assert summary.rows == {"train": 12, "test": 6}
    assert summary.row_shape == (5, 6, 3)
    with open_dataset(tmp_path / "out.h5") as data:
        assert data.class_names == CLASSES
        for split in ("train", "test"):
            got = data.split(split)
            rows = np.rint(got.read(np.arange(len(got))) * 255).transpose(0, 2, 3, 1)
            stored = {
                (int(label), row.astype(np.uint8).tobytes())
                for label, row in zip(got.labels(), rows, strict=True)
            }
            expected = {
                (CLASSES.index(path.parent.name), np.asarray(Image.open(path)).tobytes())
                for path in (source / split).rglob("*.png")
            }
            assert stored == expected


def test_one_level_holds_out_a_fifth_of_every_class_the_same_everywhere(tmp_path: Path) -> None:
    source = _classes(tmp_path / "a" / "set", 10)
    import_dataset("folder", source, tmp_path / "1.h5")
    # Another place, written in another order, with clutter around.
    moved = tmp_path / "b" / "other"
    for path in sorted(source.rglob("*.png"), reverse=True):
        target = moved / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    (moved / "ant" / ".DS_Store").write_bytes(b"x")
    (moved / "LICENSE").write_text("free")
    import_dataset("folder", moved, tmp_path / "2.h5")
    with open_dataset(tmp_path / "1.h5") as one, open_dataset(tmp_path / "2.h5") as two:
        for split in ("train", "test"):
            assert one.split(split).fingerprint() == two.split(split).fingerprint()
        assert np.bincount(one.split("test").labels()).tolist() == [2, 2, 2]
        assert np.bincount(one.split("train").labels()).tolist() == [8, 8, 8]


def test_rows_are_mixed_so_that_a_tail_holds_every_class(tmp_path: Path) -> None:
    source = _classes(tmp_path / "set", 40, size=(2, 2))
    import_dataset("folder", source, tmp_path / "out.h5")
    with open_dataset(tmp_path / "out.h5") as data:
        train = data.split("train")
        assert set(train.subset(range(len(train) - 24, len(train))).labels()) == {0, 1, 2}


def test_no_image_is_in_both_parts_and_small_classes_keep_one(tmp_path: Path) -> None:
    source = _classes(tmp_path / "set", 9)
    _image(source / "dog" / "only.png", 7)
    tree = list_image_tree(source)
    train, test = tree.splits["train"], tree.splits["test"]
    assert len(train) + len(test) == 28
    assert not {path for path, _ in train} & {path for path, _ in test}
    assert {label for _, label in train} == {0, 1, 2, 3}
    assert len(test) == round(0.2 * 28)


def test_validation_folder_becomes_the_validation_split(tmp_path: Path) -> None:
    source = _split_tree(tmp_path / "set")
    _classes(source / "validation", 3, seed=90)
    summary = import_dataset("folder", source, tmp_path / "out.h5")
    assert summary.rows == {"train": 12, "validation": 9, "test": 6}


def test_all_grey_stays_grey_and_one_colour_image_makes_all_colour(tmp_path: Path) -> None:
    source = _split_tree(tmp_path / "set", mode="L")
    assert import_dataset("folder", source, tmp_path / "1.h5").row_shape == (5, 6, 1)
    _image(source / "test" / "cow" / "001.png", 1, mode="RGB")
    assert import_dataset("folder", source, tmp_path / "2.h5").row_shape == (5, 6, 3)


def test_size_cuts_out_the_middle_and_scales_it(tmp_path: Path) -> None:
    source = _split_tree(tmp_path / "set")
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200
    Image.fromarray(wide).save(source / "train" / "ant" / "000.png")
    summary = import_dataset("folder", source, tmp_path / "out.h5", size=4)
    assert summary.row_shape == (4, 4, 3)
    with open_dataset(tmp_path / "out.h5") as data:
        train = data.split("train")
        rows = np.rint(train.read(np.arange(12)) * 255)
    assert any((row == 200).all() for row in rows)


def test_other_size_names_the_file_and_both_sizes(tmp_path: Path) -> None:
    source = _split_tree(tmp_path / "set")
    _image(source / "test" / "bee" / "001.png", 1, size=(6, 7))
    line = import_fails("folder", source, "test/bee/001.png: is 6x7", "is 6x5", "--size")
    assert line.count(".png") == 2


def test_damaged_images(tmp_path: Path) -> None:
    damages: dict[str, Callable[[bytes], bytes]] = {
        "cut": lambda data: data[: len(data) // 2],
        "empty": lambda data: b"",
        "text": lambda data: b"not an image",
        "flipped": lambda data: data[:60] + bytes([data[60] ^ 0xFF]) + data[61:],
    }
    for name, damage in damages.items():
        source = _split_tree(tmp_path / name)
        victim = source / "train" / "bee" / "002.png"
        victim.write_bytes(damage(victim.read_bytes()))
        import_fails("folder", source, "train/bee/002.png: cannot be read as an image")


def test_pictures_that_would_lose_something(tmp_path: Path) -> None:
    source = _split_tree(tmp_path / "deep")
    victim = source / "train" / "bee" / "002.png"
    Image.fromarray(np.full((5, 6), 40_000, np.uint16)).save(victim)
    import_fails("folder", source, "bee/002.png", "not 8 bits")
    _image(victim, 3, mode="RGBA")
    import_fails("folder", source, "bee/002.png: is partly transparent")
    opaque = np.full((5, 6, 4), 255, np.uint8)
    Image.fromarray(opaque).save(victim)
    import_dataset("folder", source, tmp_path / "out.h5")
    victim.unlink()
    frames = [Image.new("RGB", (6, 5), colour) for colour in ("red", "blue")]
    frames[0].save(victim.with_suffix(".tif"), save_all=True, append_images=frames[1:])
    import_fails("folder", source, "bee/002.tif: holds 2 pictures")


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    source = _split_tree(tmp_path / "set")
    (source / "test" / "dog").mkdir()
    import_fails("folder", source, "test/dog: holds no image")
    _image(source / "test" / "dog" / "1.png", 1)
    import_fails("folder", source, "/test: has other classes than train: dog")
    shutil.rmtree(source / "test" / "dog")
    (source / "train" / "cow" / "notes.txt").write_text("x")
    import_fails("folder", source, "train/cow/notes.txt: is not an image")
    (source / "train" / "cow" / "notes.txt").unlink()
    _image(source / "train" / "cow" / "more" / "1.png", 1)
    import_fails("folder", source, "train/cow/more: is a folder inside")
    shutil.rmtree(source / "train" / "cow" / "more")
    (source / "val").mkdir()
    import_fails("folder", source, "set: has the folders test, train, val")
    (source / "val").rmdir()
    shutil.rmtree(source / "test")
    import_fails("folder", source, "set: has the folders train")


def test_too_little(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    import_fails("folder", tmp_path / "none", "none: has 0 class folders")
    _image(tmp_path / "one" / "ant" / "1.png", 1)
    import_fails("folder", tmp_path / "one", "one: has 1 class folders")
    source = _classes(tmp_path / "few", 1)
    import_fails("folder", source, "few: has only 3 images")


def test_a_picture_of_absurd_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    source = _split_tree(tmp_path / "set")
    _image(source / "train" / "ant" / "000.png", 1, size=(9, 9))
    import_fails("folder", source, "ant/000.png: cannot be read", "bomb", size=4)
