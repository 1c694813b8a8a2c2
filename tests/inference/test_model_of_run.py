"""The delivered model of a whole run: loaded, used on new samples, exported, and refusals."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from mpirun import mpirun
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file

import clicooper_hpc
from clicooper_hpc.cli import main
from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.inference import load_model
from clicooper_hpc.inference.exports import torch_program
from clicooper_hpc.inference.exports.model_card import model_card
from clicooper_hpc.inference.exports.output_comparison import compare_outputs
from clicooper_hpc.inference.load_model import load_model_of_run
from clicooper_hpc.owner.class_pooling import ClassPooling
from clicooper_hpc.owner.evaluation import EVALUATION_ROWS
from clicooper_hpc.owner.release_mechanism import mechanism_guarantee
from clicooper_hpc.owner.release_setup import set_up_release
from clicooper_hpc.privacy.clipping import clip_rows
from clicooper_hpc.run.delivered_segments import load_delivered_segments
from clicooper_hpc.runstore.confusion import count_confusions
from clicooper_hpc.runstore.confusion_file import read_class_figures
from clicooper_hpc.runstore.hdf5.files import Attribute
from clicooper_hpc.runstore.private_folder import PrivateFolder

pytestmark = pytest.mark.mpi

ROOT = Path(__file__).resolve().parents[2]
CLASSES = [str(digit) for digit in range(10)]


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run on the digits with two trainers and noise; a clip norm that clips."""
    folder = tmp_path_factory.mktemp("model") / "digits"
    changes = ("pipeline.segments=2", "training.epochs=3", "privacy.epsilon=40", "privacy.clip=0.9")
    options = [part for one in (*changes, "front.normalise=false") for part in ("--set", one)]
    job = str(ROOT / "jobs" / "digits.toml")
    done = mpirun(3, ["-m", "clicooper_hpc", "run", job, "-o", str(folder), *options])
    assert done.returncode == 0, done.stderr
    folder.with_suffix(".log").write_text(done.stderr)
    return folder


@pytest.fixture
def damaged(digits_run: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(digits_run, tmp_path / "copy"))


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run a command in this process; return its code and all it printed."""

    def call(*arguments: str | Path) -> tuple[int, str]:
        code = main([str(one) for one in arguments])
        return code, "".join(capfd.readouterr())

    return call


def digits(split: str = "test") -> tuple[torch.Tensor, NDArray[np.int64]]:
    with open_dataset("digits") as data:
        part = data.split(split)
        return torch.from_numpy(part.read(np.arange(len(part)))), part.labels()


def answers(run: Path) -> NDArray[np.float32]:
    """What the loaded model says of the digits held out, in the batches of the evaluation."""
    model = clicooper_hpc.load_model(run)
    return torch.cat([model(part) for part in torch.split(digits()[0], EVALUATION_ROWS)]).numpy()


def test_the_owner_keeps_what_the_model_takes_for_what(digits_run: Path) -> None:
    said, (_, true) = answers(digits_run).argmax(axis=1), digits()
    kept = read_class_figures(clicooper_hpc.open_run(digits_run))
    assert kept is not None
    assert kept.class_names == tuple(CLASSES)
    assert kept.confusion.counts.tolist() == count_confusions(said, true, 10).counts.tolist()


def test_a_run_ends_with_what_its_accuracy_means(digits_run: Path) -> None:
    lines = digits_run.with_suffix(".log").read_text().splitlines()
    results = clicooper_hpc.open_run(digits_run).results
    shown = f"the delivered model is right for {100 * float(results['clean_accuracy']):.1f} %"
    verdict = next(line for line in lines if shown in line)
    assert "guessing among 10 classes (10.0 %)" in verdict
    assert ("WARNING" in verdict) == ("no better than" in verdict)
    ending = lines[lines.index(verdict) :]
    assert "means of 16 rows" in ending[1]
    assert "On 100 released rows" in ending[2]
    assert len(ending) <= 6


@pytest.mark.usefixtures("one_thread")
def test_every_bit_is_that_of_the_owner_s_evaluation(digits_run: Path) -> None:
    loaded = load_model_of_run(digits_run)
    setup = set_up_release(loaded.job, PrivateFolder(digits_run / "private"))
    pooling = ClassPooling(setup.label_map)
    segments = load_delivered_segments(loaded.run, loaded.job, setup.contract)
    raw = torch.split(digits()[0], EVALUATION_ROWS)
    assert len(raw) == 2
    accuracy = 0
    with torch.no_grad():
        for part, (rows, classes) in zip(raw, setup.held_out.clean_batches(), strict=True):
            for segment in segments:
                rows = segment(rows)
            theirs, mine = pooling(rows.float()), loaded.classifier(part)
            assert mine.dtype == torch.float32
            assert mine.numpy().tobytes() == theirs.float().numpy().tobytes()
            accuracy += int((mine.argmax(1).numpy() == classes).sum())
    setup.close_data()
    assert accuracy / 360 == loaded.run.results["clean_accuracy"]


@pytest.mark.usefixtures("one_thread")
def test_the_numbers_are_those_of_the_formulas(digits_run: Path) -> None:
    """Front, clip, network and pool once more, of NumPy where the module has torch."""
    loaded = load_model_of_run(digits_run)
    front: Front = loaded.front
    raw, truth = digits()
    rows = front.apply(raw.numpy()).reshape(len(raw), -1)
    promise = mechanism_guarantee(loaded.job, front.output_shape, non_negative=front.non_negative)
    clean = clip_rows(rows, promise).astype(np.float32)
    assert not np.array_equal(clean, rows)
    with torch.no_grad():
        logits = loaded.classifier.network(torch.from_numpy(clean)).double().numpy()
    # Of `random` names: the mean of their logits.
    names = loaded.classifier.pooling.names.numpy()
    means = logits[:, names].mean(axis=2)
    expected = np.exp(means) / np.exp(means).sum(axis=1, keepdims=True)
    found = loaded.classifier(raw).numpy()
    assert found == pytest.approx(expected, abs=1e-5)
    assert (found.argmax(axis=1) == truth).mean() > 0.2


def test_a_plain_module_that_knows_its_classes(digits_run: Path) -> None:
    model = clicooper_hpc.load_model(digits_run)
    assert model.class_names == tuple(CLASSES)
    assert model.input_shape == (1, 8, 8)
    assert not model.training
    assert not any(one.requires_grad for one in model.parameters())
    assert model(torch.zeros(0, 1, 8, 8)).shape == (0, 10)


def test_predictions_of_a_data_set_in_every_format(
    digits_run: Path, tmp_path: Path, say: Callable[..., tuple[int, str]]
) -> None:
    expected = answers(digits_run)
    right = (expected.argmax(axis=1) == digits()[1]).mean()
    for ending in ("csv", "h5", "npz"):
        out = tmp_path / f"out.{ending}"
        code, text = say("predict", digits_run, "digits", "-o", out)
        assert code == 0, text
        assert f"wrote {out}: 360 rows\naccuracy {100 * right:.2f} % of 360 labelled" in text
    table = pd.read_csv(tmp_path / "out.csv", dtype={"class": str})
    assert list(table.columns) == ["row", "class", *(f"p_{name}" for name in CLASSES)]
    numbers = table[[f"p_{name}" for name in CLASSES]].to_numpy(np.float32)
    names = [CLASSES[one] for one in expected.argmax(axis=1)]
    assert numbers.tobytes() == expected.tobytes()
    assert list(table["class"]) == names
    with np.load(tmp_path / "out.npz") as stored:
        assert stored["probabilities"].tobytes() == expected.tobytes()
        assert list(stored["class"]) == names
        assert list(stored["row"]) == list(range(360))
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["probabilities"][:].tobytes() == expected.tobytes()
        assert list(file["class_name"].asstr()) == names
        assert list(file["row"]) == list(range(360))


def test_predictions_of_images_name_their_files(
    digits_run: Path, tmp_path: Path, say: Callable[..., tuple[int, str]]
) -> None:
    raw, labels = digits()
    pictures = np.rint(255 * raw.numpy()[:, 0]).astype(np.uint8)
    folder = tmp_path / "pictures"
    for number in range(12):
        place = folder / str(labels[number])
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pictures[number]).save(place / f"{number}.png")
    shutil.copy(place / "11.png", folder / "unlabelled.png")
    out = tmp_path / "out.csv"
    code, text = say("predict", digits_run, folder, "-o", out)
    assert code == 0, text
    assert "13 rows" in text
    assert "of 12 labelled rows" in text
    table = pd.read_csv(out)
    files = [one.relative_to(folder).as_posix() for one in sorted(folder.rglob("*.png"))]
    assert sorted(table["file"]) == sorted(files)
    model = clicooper_hpc.load_model(digits_run)
    which = list(table["file"]).index("unlabelled.png")
    expected = model(torch.from_numpy(pictures[None, None, 11] / np.float32(255)))[0].numpy()
    found = table.loc[which, [f"p_{name}" for name in CLASSES]].to_numpy(np.float32)
    assert found == pytest.approx(expected, abs=1e-6)


def test_an_archive_without_labels_has_predictions_and_no_accuracy(
    digits_run: Path, tmp_path: Path, say: Callable[..., tuple[int, str]]
) -> None:
    np.savez(tmp_path / "new.npz", x=digits()[0].numpy().transpose(0, 2, 3, 1))
    code, text = say("predict", digits_run, tmp_path / "new.npz", "-o", tmp_path / "out.npz")
    assert code == 0, text
    assert "accuracy" not in text
    with np.load(tmp_path / "out.npz") as stored:
        assert stored["probabilities"].tobytes() == answers(digits_run).tobytes()


def test_a_published_archive_is_read_as_it_is_imported(
    digits_run: Path, tmp_path: Path, say: Callable[..., tuple[int, str]]
) -> None:
    raw, labels = digits()
    pictures = np.rint(255 * raw.numpy()[:, 0]).astype(np.uint8)
    folder = tmp_path / "idx"
    folder.mkdir()
    for name, count in (("train", 7), ("t10k", 300)):
        for what, values in (("images", pictures[:count]), ("labels", labels[:count])):
            head = bytes((0, 0, 8, values.ndim)) + np.array(values.shape, ">u4").tobytes()
            file = folder / f"{name}-{what}-idx{values.ndim}-ubyte"
            file.write_bytes(head + values.astype(np.uint8).tobytes())
    model = clicooper_hpc.load_model(digits_run)
    expected = model(torch.from_numpy(pictures[:300, None] / np.float32(255))).numpy()
    right = int((expected.argmax(axis=1) == labels[:300]).sum())
    for split, rows in (("test", 300), ("train", 7)):
        out = tmp_path / f"{split}.npz"
        code, text = say("predict", digits_run, folder, "-o", out, "--split", split)
        assert code == 0, text
        with np.load(out) as stored:
            assert stored["probabilities"] == pytest.approx(expected[:rows], abs=1e-6)
        assert split == "train" or f"accuracy {right / 3:.2f} % of 300 labelled" in text
    code, text = say("predict", digits_run, folder, "-o", tmp_path / "x.csv", "--split", "mine")
    assert (code, "has no split 'mine'" in text) == (2, True)


def test_labels_are_compared_by_name(
    digits_run: Path, tmp_path: Path, say: Callable[..., tuple[int, str]]
) -> None:
    said = answers(digits_run)[:100].argmax(axis=1)
    raw = digits()[0].numpy()[:100].transpose(0, 2, 3, 1)
    # Class 0 of the archive is the model's "9", and so on; the last one it does not know.
    names = np.array([*CLASSES[::-1], "letter"])
    labels = 9 - said
    labels[:20] = 10
    labels[20:40] = 9 - (said[20:40] + 1) % 10
    np.savez(tmp_path / "new.npz", x=raw, y=labels, class_names=names)
    code, text = say("predict", digits_run, tmp_path / "new.npz", "-o", tmp_path / "out.csv")
    assert code == 0, text
    assert "accuracy 75.00 % of 80 labelled rows" in text
    assert "20 rows are labelled with classes the model does not know" in text


def test_labels_may_be_any_number(
    digits_run: Path, tmp_path: Path, say: Callable[..., tuple[int, str]]
) -> None:
    """Also one that is far above the classes that the model knows."""
    labels = answers(digits_run)[:9].argmax(axis=1)
    labels[5:] = 60_000
    np.savez(tmp_path / "new.npz", x=digits()[0].numpy()[:9].transpose(0, 2, 3, 1), y=labels)
    code, text = say("predict", digits_run, tmp_path / "new.npz", "-o", tmp_path / "out.csv")
    assert code == 0, text
    assert "accuracy 100.00 % of 5 labelled rows" in text
    assert "4 rows are labelled with classes the model does not know" in text


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros((3, 64), np.uint8), "vectors of 64 numbers, the model takes images of 8x8"),
        (np.full((3, 8, 8), 200, np.float32), "row 0: holds numbers from 200 to 200; those the"),
    ],
)
def test_other_data_are_refused_with_what_was_found_and_nothing_is_left(
    digits_run: Path,
    tmp_path: Path,
    say: Callable[..., tuple[int, str]],
    x: NDArray[np.generic],
    words: str,
) -> None:
    np.savez(tmp_path / "new.npz", x=x)
    for ending in ("csv", "h5", "npz"):
        out = tmp_path / f"out.{ending}"
        code, text = say("predict", digits_run, tmp_path / "new.npz", "-o", out)
        assert code == 2
        assert words in text
    assert [one.name for one in tmp_path.iterdir()] == ["new.npz"]


def test_rows_of_another_shape_are_refused_before_the_network_is_loaded(
    digits_run: Path,
    tmp_path: Path,
    say: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("the network is loaded")

    monkeypatch.setattr(load_model, "load_delivered_segments", loaded)
    with h5py.File(tmp_path / "new.h5", "w") as file:
        file.attrs["class_names"] = np.array([b"0", b"1"])
        for split in ("train", "test"):
            file[f"{split}/x"] = np.zeros((3, 9, 9, 1), dtype=np.uint8)
            file[f"{split}/y"] = np.arange(3, dtype=np.int64) % 2
    code, text = say("predict", digits_run, tmp_path / "new.h5", "-o", tmp_path / "out.csv")
    assert (code, "images of 9x9 pixels" in text, "takes images of 8x8" in text) == (2, True, True)
    with pytest.raises(AssertionError, match="is loaded"):
        say("predict", digits_run, "digits", "-o", tmp_path / "out.csv")


def test_a_prediction_overwrites_nothing_unasked(
    digits_run: Path, tmp_path: Path, say: Callable[..., tuple[int, str]]
) -> None:
    out = tmp_path / "out.csv"
    out.write_text("mine")
    code, text = say("predict", digits_run, "digits", "-o", out)
    assert (code, out.read_text()) == (2, "mine")
    assert "exists already" in text
    assert say("predict", digits_run, "digits", "-o", out, "--overwrite")[0] == 0
    assert len(out.read_text().splitlines()) == 361


def test_a_prediction_replaces_neither_its_input_nor_a_file_of_a_run(
    damaged: Path, tmp_path: Path, say: Callable[..., tuple[int, str]]
) -> None:
    new = tmp_path / "new.npz"
    np.savez(new, x=np.zeros((1, 8, 8), np.float32))
    before = new.read_bytes()
    linked = tmp_path / "linked.npz"
    linked.hardlink_to(new)
    for data, out, words in (
        (new, new, "is both source and target"),
        (new, linked, "is both source and target"),
        (tmp_path, tmp_path / "new.npz", "lies in the folder that is read"),
        ("digits", damaged / "rank-000.h5", "lies in a run folder"),
        ("digits", damaged / "run.h5", "lies in a run folder"),
        (new, damaged / "private" / "new.csv", "lies in a run folder"),
    ):
        files = {path: path.stat().st_mtime_ns for path in damaged.rglob("*")}
        kind = ("--kind", "idx") if data == tmp_path else ()
        code, text = say("predict", damaged, data, "-o", out, "--overwrite", *kind)
        assert (code, words in text, text.count("\n")) == (2, True, 1), text
        assert {path: path.stat().st_mtime_ns for path in damaged.rglob("*")} == files
        assert new.read_bytes() == linked.read_bytes() == before


def test_a_changed_segment_is_refused(damaged: Path, say: Callable[..., tuple[int, str]]) -> None:
    path = damaged / "delivery" / "segment-002.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    code, text = say("predict", damaged, "digits", "-o", damaged.parent / "out.csv")
    assert code == 4
    assert text.startswith(f"clicooper: {path}: these are not the weights that the owner signed")
    code, text = say("export", damaged, "--to", "torch", "-o", damaged.parent / "out.pt2")
    assert code == 4
    assert not list(damaged.parent.glob("out*"))


def test_a_ledger_that_is_missing_is_no_evidence(
    damaged: Path, say: Callable[..., tuple[int, str]]
) -> None:
    with h5py.File(damaged / "rank-000.h5", "r+") as file:
        del file["ledger"]
    code, text = say("predict", damaged, "digits", "-o", damaged.parent / "out.csv")
    assert (code, text.count("\n")) == (4, 1), text
    assert "end of the ledger: the ledger has no entries" in text


def test_what_is_missing_is_named(damaged: Path, say: Callable[..., tuple[int, str]]) -> None:
    (damaged / "private" / "label-map.safetensors").unlink()
    code, text = say("predict", damaged, "digits", "-o", damaged.parent / "out.csv")
    assert code == 2
    assert "label-map.safetensors is missing" in text
    assert "Use the model where the owner keeps the run folder" in text
    with h5py.File(damaged / "run.h5", "r+") as file:
        file.attrs["status"] = np.bytes_("running")
    code, text = say("predict", damaged, "digits", "-o", damaged.parent / "out.csv")
    assert code == 2
    assert "did not reach its end" in text


def test_a_run_that_kept_no_names_takes_them_from_its_data(damaged: Path) -> None:
    kept = load_model_of_run(damaged).input
    (damaged / "private" / "input.json").unlink()
    assert load_model_of_run(damaged).input.class_names == kept.class_names


def test_names_of_other_classes_than_the_label_map_s_are_refused(
    damaged: Path, say: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = damaged / "private" / "input.json"
    facts = load_model_of_run(damaged).input
    fewer = dataclasses.replace(facts, class_names=facts.class_names[:7])
    path.write_bytes(fewer.to_private_bytes())
    words = f"{path.parent}: there are 7 names of classes, the label map knows 10 classes"
    code, text = say("predict", damaged, "digits", "-o", damaged.parent / "out.csv")
    assert (code, words in text) == (2, True), text
    # And of the data set of a run that kept no names.
    path.unlink()
    monkeypatch.setattr(load_model, "observe_input", lambda *_: fewer)
    code, text = say("predict", damaged, "digits", "-o", damaged.parent / "out.csv")
    assert (code, words in text) == (2, True), text


PLAIN = """
import sys
sys.modules["clicooper_hpc"] = None  # an import of it fails
import numpy, torch
torch.set_num_threads(1)
raw = torch.from_numpy(numpy.load(sys.argv[2]))
numpy.save(sys.argv[3], torch.export.load(sys.argv[1]).module()(raw).numpy())
"""


@pytest.mark.usefixtures("one_thread")
def test_a_folder_to_hand_on_needs_nothing_of_the_package(
    digits_run: Path, tmp_path: Path, say: Callable[..., tuple[int, str]]
) -> None:
    out = tmp_path / "handed-on"
    words = "Scans of digits."
    options = ("--to", "hf-folder", "-o", out, "--describe", words)
    code, text = say("export", digits_run, *options)
    assert code == 0, text
    assert f"wrote {out}: read back, its answers are " in text
    assert {one.name for one in out.iterdir()} == {
        "README.md",
        "config.json",
        "model.pt2",
        "model.safetensors",
    }
    loaded = load_model_of_run(digits_run)
    raw = digits()[0][: loaded.front.block_rows]
    np.save(tmp_path / "raw.npy", raw.numpy())
    files = (out / "model.pt2", tmp_path / "raw.npy", tmp_path / "said.npy")
    command = [sys.executable, "-c", PLAIN, *map(str, files)]
    subprocess.run(command, check=True, cwd=tmp_path)
    said = np.load(tmp_path / "said.npy")
    assert said.tobytes() == loaded.classifier(raw).numpy().tobytes()
    # No trace of where it was made.
    for path in out.iterdir():
        assert str(ROOT).encode() not in path.read_bytes()
        assert str(digits_run).encode() not in path.read_bytes()
    config = json.loads((out / "config.json").read_text())
    state = load_file(out / "model.safetensors")
    assert {name: list(value.shape) for name, value in state.items()} == {
        name: one["shape"] for name, one in config["tensors"].items()
    }
    assert list(config["id2label"].values()) == CLASSES
    card = (out / "README.md").read_text()
    accuracy = 100 * float(loaded.run.results["clean_accuracy"])
    assert loaded.delivery is not None
    for part in (words, "epsilon 40", f"{accuracy:.2f} %", loaded.delivery.segments[0].weights):
        assert part in card
    # And nothing is overwritten.
    code, text = say("export", digits_run, *options)
    assert (code, "exists already" in text) == (2, True)
    code, text = say("export", digits_run, "--to", "torch", "-o", tmp_path / "model.onnx")
    assert (code, "must end in .pt2" in text) == (2, True)
    code, text = say("export", digits_run, "--to", "torch", "-o", tmp_path / "none" / "model.pt2")
    assert (code, f"{tmp_path / 'none'}: there is no such folder" in text) == (2, True)


def test_a_model_card_claims_what_holds(digits_run: Path) -> None:
    loaded = load_model_of_run(digits_run)
    card = model_card(loaded, description=None)
    rows = [line for line in card.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows] == [
        "| figure",
        "| Delivered model on clean held-out samples",
        "| Released validation samples, by the logits the last trainer sent",
    ]
    assert '"Delivered model on clean held-out samples": 360 samples that never left' in card
    for part in ("- differential-privacy\n", "The promise covers", "which of the secret names"):
        assert part in card
    for part in ("INSECURE", "NO PRIVACY", "CONDITIONAL"):
        assert part not in card

    def of(**changes: dict[str, object]) -> str:
        sections = {
            name: getattr(loaded.job, name).model_copy(update=values)
            for name, values in changes.items()
        }
        job = loaded.job.model_copy(update=sections)
        return model_card(replace(loaded, job=job), description=None)

    bare = of(privacy={"enabled": False}, labels={"method": "none"})
    for part in ("differential-privacy", "The promise covers", "which of the secret names"):
        assert part not in bare
    assert "**NO PRIVACY: what left the owner carried no noise.**" in bare
    seeded = of(privacy={"mode": "reproducible-INSECURE"})
    assert "**INSECURE: all secrets of the run follow from a seed" in seeded
    assert "differential-privacy" not in seeded
    # Of a run without proofs anybody may have changed the results.
    odd: dict[str, Attribute] = {
        "clean_accuracy": "high",
        "released_accuracy": 0.25,
        "clean_samples": float("nan"),
    }
    changed = replace(loaded, delivery=None, run=replace(loaded.run, results=odd))
    text = model_card(changed, description=None)
    assert "| nan % |" in text
    assert "| 25.00 % |" in text
    assert "nan samples that never left" in text


def test_class_names_are_no_markup(digits_run: Path) -> None:
    loaded = load_model_of_run(digits_run)
    loaded.classifier.class_names = ("plain", "![x](http://e)", "a`b", "``", " c ")
    card = model_card(loaded, description=None)
    assert "5 classes (`plain`, `![x](http://e)`, ``a`b``, ``` `` ```, `  c  `)" in card


def test_weights_are_compared_as_tensors(
    digits_run: Path, tmp_path: Path, say: Callable[..., tuple[int, str]]
) -> None:
    out = tmp_path / "weights"
    code, text = say("export", digits_run, "--to", "safetensors", "-o", out)
    assert code == 0, text
    assert f"wrote {out}: read back, its tensors are equal to the bit" in text


@pytest.mark.parametrize("where_off", [1, 3])
def test_the_largest_difference_is_the_one_that_is_told(digits_run: Path, where_off: int) -> None:
    loaded = load_model_of_run(digits_run)

    def exported(rows: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = loaded.classifier(rows)
        return found + (5e-6 if len(rows) == where_off else 0.0)

    assert compare_outputs(loaded, exported, where="x") == pytest.approx(5e-6, rel=0.1)


def test_an_export_that_says_something_else_is_not_kept(
    digits_run: Path,
    tmp_path: Path,
    say: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Other(torch.nn.Module):
        def forward(self, raw: torch.Tensor) -> torch.Tensor:
            return raw.sum(dim=(1, 2, 3)).unsqueeze(1).expand(-1, 10) * 0 + 0.1

    def traced(model: object) -> torch.export.ExportedProgram:
        rows = torch.export.Dim("rows", min=1)
        return torch.export.export(Other(), (torch.zeros(2, 1, 8, 8),), dynamic_shapes=({0: rows},))

    monkeypatch.setattr(torch_program, "trace_program", traced)
    code, text = say("export", digits_run, "--to", "torch", "-o", tmp_path / "model.pt2")
    assert code == 5
    assert "differs from the model by" in text
    assert not list(tmp_path.iterdir())


def test_onnx_says_the_same_in_onnx_runtime(
    digits_run: Path, tmp_path: Path, say: Callable[..., tuple[int, str]]
) -> None:
    out = tmp_path / "model.onnx"
    runtime = pytest.importorskip("onnxruntime", reason="needs the extra 'export'")
    pytest.importorskip("onnxscript", reason="needs the extra 'export'")
    code, text = say("export", digits_run, "--to", "onnx", "-o", out)
    assert code == 0, text
    session = runtime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    raw = digits()[0]
    (said,) = session.run(["probabilities"], {"raw": raw.numpy()})
    model = clicooper_hpc.load_model(digits_run)
    assert np.abs(said - model(raw).numpy()).max() < 1e-5
