"""The network a run delivered: put together, compared with its job, its data with private ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from clicooper_hpc.config.job import Job
from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.data.importers.import_dataset import import_dataset
from clicooper_hpc.errors import DataError, UsageError
from clicooper_hpc.fronts.build_front import FrontBase, build_front
from clicooper_hpc.fronts.delivered_network import DeliveredNetwork
from clicooper_hpc.fronts.front import restore_front
from clicooper_hpc.models.build_model import build_model
from clicooper_hpc.privacy.front_run import FrontRun, find_front_run

SHAPE = (1, 8, 8)
RUN_ID, ROOT, NETWORK = "a" * 32, "b" * 64, "c" * 64
FACTS = FrontRun(RUN_ID, 50, ROOT, NETWORK, "glyphs", accuracy=0.5)
CUTS = (0, 4)


def delivered(
    data: str = "nowhere.h5", facts: FrontRun = FACTS, name: str = "vgg"
) -> DeliveredNetwork:
    job = Job.model_validate(
        {
            "data": {"path": data, "train_rows": 40},
            "privacy": {"enabled": False},
            "model": {"name": name, "options": {"channels": [4, "M", 8]} if name == "vgg" else {}},
        }
    )
    options = {"channels": (4, "M", 8)}
    model = build_model("vgg", input_shape=SHAPE, outputs=6, seed=9, options=options)
    segments: list[dict[str, Tensor]] = []
    for first, last in ((0, 4), (4, len(model))):
        # Numbered from 0, as a trainer delivers them.
        segments.append(dict(nn.Sequential(*list(model)[first:last]).state_dict()))
    return DeliveredNetwork(facts, job, CUTS, segments)


def write_images(folder: Path, name: str, seed: int, *, shared: int = 0) -> Path:
    """Write 60 training images, the first ``shared`` of them those of seed 0."""
    images = np.random.default_rng(seed).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    if shared:
        images[:shared] = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)[
            :shared
        ]
    classes = np.arange(60) % 3
    np.savez(
        folder / f"{name}.npz",
        x_train=images,
        x_test=255 - images[:12],
        y_train=classes,
        y_test=classes[:12],
    )
    import_dataset("npz", folder / f"{name}.npz", folder / f"{name}.h5")
    return folder / f"{name}.h5"


def test_a_front_of_a_run_is_its_network_and_says_so() -> None:
    given = delivered()
    model = build_model(
        "vgg", input_shape=SHAPE, outputs=6, seed=9, options={"channels": (4, "M", 8)}
    ).eval()
    front = build_front(FrontBase("run", SHAPE, delivered=given, cut=6))
    rows = np.random.default_rng(0).random((5, *SHAPE), dtype=np.float32)
    with torch.no_grad():
        wanted = model[:6](torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(front.apply(rows), wanted, atol=1e-5, rtol=1e-5)
    assert front.origin.kind == "run"
    assert not front.origin.is_private
    card = "\n".join(f"{name:<16} {text}" for name, text in FACTS.rows())
    assert find_front_run(card) == FACTS.signed_end() == (RUN_ID, 50, ROOT, NETWORK)
    summary = front.origin.summarise_origin()
    assert summary.run == FACTS
    assert f"vgg as run {RUN_ID} delivered it, layers 0 to 5 of 9" in summary.line()
    again = restore_front(front.front_settings(), front.front_tensors())
    assert (again.digest, again.origin) == (front.digest, front.origin)


def test_a_card_that_names_two_runs_names_none() -> None:
    line = f"front run        {RUN_ID}, ledger 50 {ROOT}, network {NETWORK}"
    assert find_front_run(line) is not None
    assert find_front_run(f"{line}\n{line}") is None
    assert find_front_run(line.replace("a", "x")) is None
    assert find_front_run(f"{line} and more") is None


def test_read_outs_and_resize_are_those_of_weights() -> None:
    front = build_front(
        FrontBase("run", SHAPE, delivered=delivered(), resize=12, mirror=True, cut=7)
    )
    assert front.output_shape == (8, 6, 6)
    with pytest.raises(UsageError, match="the cut 10 is not between 1 and 9"):
        build_front(FrontBase("run", SHAPE, delivered=delivered(), cut=10))
    with pytest.raises(UsageError, match=r"front\.run"):
        build_front(FrontBase("run", SHAPE))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda s: s[0].pop("0.weight"), "0.weight is missing or too many"),
        (lambda s: s[1].update({"9.weight": torch.ones(3)}), "does not end in a linear layer"),
        (lambda s: s[1].update({"weight": torch.ones(3)}), "belongs to no layer"),
        (lambda s: s[0].update({"0.weight": torch.ones(4, 2, 3, 3)}), "must be"),
        (lambda s: s[0].update({"0.weight": s[0]["0.weight"].double()}), "float64"),
        (lambda s: s[0].update({"0.weight": s[0]["0.weight"] / 0}), "not finite"),
    ],
)
def test_tensors_of_another_network_are_refused(change: object, problem: str) -> None:
    given = delivered()
    change(given.segments)  # type: ignore[operator]
    with pytest.raises(DataError) as caught:
        build_front(FrontBase("run", SHAPE, delivered=given))
    assert problem in str(caught.value)
    assert RUN_ID in str(caught.value)


def test_a_job_of_a_huge_network_costs_no_memory() -> None:
    given = delivered()
    model = given.job.model.model_copy(update={"options": {"channels": [1 << 20, "M", 1 << 20]}})
    huge = dataclasses.replace(given, job=given.job.model_copy(update={"model": model}))
    with pytest.raises(DataError, match=r"must be torch.float32 \[1048576"):  # 39 TB
        build_front(FrontBase("run", SHAPE, delivered=huge))


def test_code_of_the_run_is_never_run() -> None:
    with pytest.raises(DataError, match="own code"):
        build_front(FrontBase("run", SHAPE, delivered=delivered(name="os:getcwd")))


def test_its_data_are_compared_with_the_private_ones(tmp_path: Path) -> None:
    private = write_images(tmp_path, "private", 0)
    other = write_images(tmp_path, "other", 1)
    part = write_images(tmp_path, "part", 2, shared=7)
    with open_dataset(private) as data:
        clean = delivered(str(other)).compare_data(data)
        same = delivered(str(private)).compare_data(data)
        some = delivered(str(part)).compare_data(data)
        gone = delivered(str(tmp_path / "gone.h5")).compare_data(data)
        promise = "guarantee epsilon 2, delta 1e-05 per sample"
        facts = dataclasses.replace(FACTS, promise=promise)
        promised = delivered(str(private), facts).compare_data(data)
        with open_dataset(other) as there:
            fingerprint = there.split("train").fingerprint().hex
    assert clean.reasons == ()
    assert clean.input_shape == SHAPE
    assert clean.facts.fingerprint == fingerprint
    assert same.reasons == (f"run {RUN_ID} was trained on the private data itself",)
    assert some.reasons == (f"7 rows that run {RUN_ID} was trained on are private rows too",)
    assert "were not compared with the private data" in gone.reasons[0]
    assert gone.facts.fingerprint is None
    for given, words in (
        (clean, "public"),
        (same, "saw private samples without DP"),
        (promised, "saw private samples under the promise of that run alone"),
    ):
        front = build_front(FrontBase("run", SHAPE, delivered=given, cut=3))
        line = front.origin.summarise_origin().line()
        assert words in line
        assert line.startswith("CONDITIONAL") == (given is not clean)
    assert promise in promised.reasons[0]


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((64,), f"7 rows that run {RUN_ID} was trained on are private rows too"),
        ((4, 16), f"7 rows that run {RUN_ID} was trained on are private rows too"),
        (
            (7, 8),
            f"the rows of run {RUN_ID} ([1, 7, 8]) were not compared with the private rows "
            "([1, 8, 8])",
        ),
    ],
)
def test_rows_of_another_shape_are_compared_too(
    tmp_path: Path, shape: tuple[int, ...], reason: str
) -> None:
    private = write_images(tmp_path, "private", 0)
    rows = np.load(tmp_path / "private.npz")["x_train"].reshape(60, -1)
    rows[7:] //= 2
    other = rows[:, : int(np.prod(shape))].reshape(60, *shape)
    classes = np.arange(60) % 3
    np.savez(
        tmp_path / "other.npz",
        x_train=other,
        x_test=255 - other[:12],
        y_train=classes,
        y_test=classes[:12],
    )
    import_dataset("npz", tmp_path / "other.npz", tmp_path / "other.h5")
    with open_dataset(private) as data:
        given = delivered(str(tmp_path / "other.h5")).compare_data(data)
    assert given.reasons == (reason,)
