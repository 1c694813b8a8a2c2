"""A run for trackers, read back by their own readers where these are installed."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import runstore_example as example

from clicooper_hpc.cli import main
from clicooper_hpc.provenance.merkle import merkle_leaf_hash
from clicooper_hpc.report.trackers.metric_series import metric_series
from clicooper_hpc.report.trackers.run_record import read_run_record
from clicooper_hpc.runstore.index_end import finish_index
from clicooper_hpc.runstore.reader import open_run
from clicooper_hpc.runstore.tables.shard_writer import ShardWriter

OWNERS = "/home/owner/secret-project"
JOB = {
    "data": {"path": f"{OWNERS}/cells.h5"},
    "training": {"epochs": 2, "learning_rate": 0.1, "clip_norm": None, "betas": [0.9, 0.99]},
}
PRIVATE = "a key nobody may see"
STEPS = 8


def load(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is not installed")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of an owner and two trainers, whose job names a path, with a ledger."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(example, "JOB", JOB)
        folder, writers = example.start_run(tmp_path_factory.mktemp("trackers") / "first")
        for rank, writer in enumerate(writers):
            with writer:
                example.write_steps(writer, rank, range(STEPS))
                if rank == 0:
                    example.write_owner_events(writer)
                    entry = {"entry": 0, "kind": "run", "segment": -1, "stage": -1}
                    writer.append("ledger", {**entry, "envelope": '{"payload":"x"}'})
        finish_index(folder.index, results=example.RESULTS, privacy=example.PRIVACY)
    private = folder.path / "private"
    private.mkdir(exist_ok=True)
    (private / "secret").write_text(PRIVATE)
    return folder.path


def export(run: Path, form: str, out: Path) -> Path:
    assert main(["export", str(run), "--to", form, "-o", str(out)]) == 0
    for path in out.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for words in (OWNERS, PRIVATE, str(run.parent)):
            assert words.encode() not in content, f"{path.name} has {words}"
    return out


def table(out: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(
        out / f"{name}.csv", keep_default_na=False, na_values=[""], dtype={"value": str}
    )


def test_tables_hold_the_numbers_of_the_run(run: Path, tmp_path: Path) -> None:
    out = export(run, "csv", tmp_path / "out")
    opened = open_run(run)
    for name in ("steps", "training", "evaluation", "releases"):
        written = table(out, name)
        for rank, rows in written.groupby("rank"):
            stored = opened.table(name, int(str(rank)))
            assert len(rows) == len(stored) > 0
            for column in stored:
                # To the bit.
                np.testing.assert_array_equal(rows[column].to_numpy(float), stored[column])
    assert sorted(table(out, "training")["rank"].unique()) == [1, 2]
    params = table(out, "params").set_index("name")["value"].to_dict()
    assert params == {
        "data.path": "cells.h5",
        "training.epochs": "2",
        "training.learning_rate": "0.1",
        "training.clip_norm": "none",
        "training.betas": "[0.9, 0.99]",
    }
    results = table(out, "results").set_index("name")
    assert results.loc["clean_accuracy", "number"] == 0.875
    assert results.loc["wall_s", "units"] == "s"
    assert (out / "privacy-card.txt").read_text() == f"{example.PRIVACY.text}\n"
    leaf = merkle_leaf_hash(b'{"payload":"x"}').hex()
    assert table(out, "proofs").to_dict("records") == [
        {"entry": 0, "kind": "run", "segment": -1, "stage": -1, "leaf": leaf}
    ]
    about = table(out, "columns")
    assert set(about["table"]) == {"steps", "training", "evaluation", "releases", "proving"}
    seconds = about[(about["table"] == "steps") & (about["column"] == "step_s")]
    assert seconds["units"].tolist() == ["s"]


def test_parquet_holds_the_same_with_units(run: Path, tmp_path: Path) -> None:
    load("pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    text = export(run, "csv", tmp_path / "csv")
    out = export(run, "parquet", tmp_path / "parquet")
    for name in ("steps", "training", "results", "params"):
        read = parquet.read_table(out / f"{name}.parquet")
        # check_dtype: a column of a few numbers may be read back as whole ones.
        pd.testing.assert_frame_equal(read.to_pandas(), table(text, name), check_dtype=False)
    field = parquet.read_schema(out / "steps.parquet").field("step_s")
    assert field.metadata == {b"units": b"s", b"long_name": b"Wall time of the step"}


def test_points_are_placed_by_step_and_time_in_steps(run: Path) -> None:
    series = {
        (rank, one.name): one
        for rank, several in metric_series(read_run_record(run)).items()
        for one in several
    }
    assert {rank for rank, _ in series} == {"owner", "trainer-1", "trainer-2"}
    loss = series["trainer-2", "training/loss"]
    assert loss.steps.tolist() == list(range(STEPS))
    begun = pd.Timestamp("2026-01-02T03:04:05+00:00").timestamp()
    assert loss.times[0] == begun + 3.0
    assert loss.times[1] == begun + 3.0 + 3.01
    # A column of the owner's that no number stands in is none.
    assert ("owner", "evaluation/clean_accuracy") in series
    assert ("owner", "evaluation/released_accuracy") not in series
    assert ("owner", "releases/train/epsilon") in series


def test_tensorboard_reads_every_rank(run: Path, tmp_path: Path) -> None:
    load("tensorboard")
    reader: Any = importlib.import_module(
        "tensorboard.backend.event_processing.event_accumulator"
    ).EventAccumulator
    out = export(run, "tensorboard", tmp_path / "out")

    def opened(folder: Path) -> Any:
        found = reader(str(folder), size_guidance={"scalars": 0, "tensors": 0})
        return found.Reload()

    loss = opened(out / "trainer-2").Scalars("training/loss")
    assert [one.step for one in loss] == list(range(STEPS))
    stored = open_run(run).table("training", 2)["loss"].to_numpy(np.float32)
    np.testing.assert_array_equal(np.array([one.value for one in loss], np.float32), stored)
    assert loss[1].wall_time - loss[0].wall_time == pytest.approx(3.01)
    whole = opened(out)
    (accuracy,) = whole.Scalars("results/clean_accuracy")
    assert (accuracy.step, accuracy.value) == (STEPS, 0.875)
    card = whole.Tensors("privacy/card/text_summary")[0].tensor_proto.string_val[0].decode()
    assert card == "".join(f"    {line}\n" for line in example.PRIVACY.text.splitlines())
    assert "_hparams_/session_start_info" in whole.PluginTagToContent("hparams")


def test_mlflow_reads_params_metrics_and_tags(run: Path, tmp_path: Path) -> None:
    load("mlflow")
    client_of: Any = importlib.import_module("mlflow").MlflowClient
    # A name that means something in a URL.
    out = export(run, "mlflow", tmp_path / "out ?#%20")
    out.rename(tmp_path / "moved")
    client = client_of(f"sqlite:///{tmp_path / 'moved' / 'mlflow.db'}")
    (experiment,) = [one for one in client.search_experiments() if one.name == "clicooper"]
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.run_name, found.info.status) == ("first", "FINISHED")
    assert found.data.params["training.learning_rate"] == "0.1"
    assert found.data.metrics["clean_accuracy"] == 0.875
    assert found.data.tags["clicooper.run_id"] == example.RUN_ID
    history = client.get_metric_history(found.info.run_id, "trainer-2/training/loss")
    stored = open_run(run).table("training", 2)["loss"].tolist()
    assert [(one.step, one.value) for one in history] == list(enumerate(stored))
    # Where its server looks for artifacts.
    identity = f"{experiment.experiment_id}/{found.info.run_id}"
    assert found.info.artifact_uri == f"mlflow-artifacts:/{identity}/artifacts"
    tables = tmp_path / "moved" / "mlartifacts" / identity / "artifacts" / "tables"
    assert len(table(tables, "steps")) == 3 * STEPS


def test_an_unfinished_run_without_a_rank_says_what_is_not_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, writers = example.start_run(tmp_path / "run")
    for rank, writer in enumerate(writers):
        with writer:
            example.write_steps(writer, rank, range(3))
    folder.shard(1).unlink()
    assert main(["export", str(folder.path), "--to", "csv", "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "incomplete run of 3 ranks, 3 steps, 0 results" in said
    assert "not in it: rank 1: its file rank-001.h5 is missing" in said
    assert table(tmp_path / "out", "gaps")["gap"].tolist() == [
        "rank 1: its file rank-001.h5 is missing"
    ]
    assert sorted(table(tmp_path / "out", "steps")["rank"].unique()) == [0, 2]
    # What was promised before the first release.
    assert (tmp_path / "out" / "privacy-card.txt").read_text()
    assert (
        main(["export", str(folder.path), "--to", "csv", "-o", str(tmp_path / "more"), "--json"])
        == 0
    )
    assert json.loads(capsys.readouterr().out)["gaps"] == [
        "rank 1: its file rank-001.h5 is missing"
    ]


def test_texts_of_strangers_are_neither_control_characters_nor_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        example, "JOB", {"a\x1b[2J": "x\x1b[2J\u202e", "b": {"c": "/home/some one/x.h5"}}
    )
    folder, writers = example.start_run(tmp_path / "run")
    for writer in writers:
        writer.close()
    assert main(["export", str(folder.path), "--to", "csv", "-o", str(tmp_path / "out")]) == 0
    params = table(tmp_path / "out", "params").set_index("name")["value"].to_dict()
    assert params == {r"a\x1b[2J": r"x\x1b[2J\u202e", "b.c": "x.h5"}


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("there", "exists already"),
        ("nowhere/out", "there is no such folder"),
        ("first/out", "lies in a run folder"),
    ],
)
def test_a_place_that_will_not_do_is_refused_and_nothing_is_left(
    run: Path, tmp_path: Path, place: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "first").symlink_to(run)
    before = sorted(run.iterdir())
    assert main(["export", str(run), "--to", "csv", "-o", str(tmp_path / place)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert said in err
    assert sorted(one.name for one in tmp_path.iterdir()) == ["first", "there"]
    assert sorted(run.iterdir()) == before


def test_a_folder_without_a_run_and_a_description_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main(["export", str(empty), "--to", "csv", "-o", str(tmp_path / "out")]) == 2
    assert list(tmp_path.iterdir()) == [empty]
    options = ["--to", "csv", "-o", str(tmp_path / "out"), "--describe", "words"]
    assert main(["export", str(run), *options]) == 2
    assert "--describe: only a model card shows it" in capsys.readouterr().err


def test_a_missing_package_is_named_with_its_extra(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(name: str) -> Any:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", absent)
    for form, extra in (("tensorboard",) * 2, ("mlflow",) * 2, ("parquet", "tables")):
        assert main(["export", str(run), "--to", form, "-o", str(tmp_path / "out")]) == 5
        assert f"pip install 'clicooper-hpc[{extra}]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_tables_without_a_row_are_no_error(tmp_path: Path) -> None:
    folder, writers = example.start_run(tmp_path / "run")
    for writer in writers:
        assert isinstance(writer, ShardWriter)
        writer.close()
    record = read_run_record(folder.path)
    assert record.steps == 0
    assert all(not series for series in metric_series(record).values())
