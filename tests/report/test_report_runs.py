"""The page of runs that were written for it: texts of strangers, gaps, several runs, the errors."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import stat
from dataclasses import replace
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runstore_example as example
from report_example import CARD, TEXT, page_of, read_page, written_run

from clicooper_hpc.attacks.harness.attack import AttackResult
from clicooper_hpc.cli import main
from clicooper_hpc.report.computed_step import compute_step
from clicooper_hpc.report.numbers import bytes_text, number_text, percent_text
from clicooper_hpc.report.promise import read_promise
from clicooper_hpc.report.public_text import PublicText
from clicooper_hpc.report.run_reading import RunReading, open_reading
from clicooper_hpc.report.several_runs import compare_runs
from clicooper_hpc.report.step_times import kept_rows_words, read_edge_traffic, read_rank_times
from clicooper_hpc.report.verdict import RunVerdict, read_verdict
from clicooper_hpc.runstore.attack_record import AttackRecord, write_attack_record
from clicooper_hpc.runstore.index import RunResult
from clicooper_hpc.runstore.reader import open_run

EVIL = "<script>alert(1)</script> $\\frac{1}{0}$ \x1b[2J \u202e"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_run(tmp_path_factory.mktemp("report") / "plain")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "page.html"


def test_texts_of_strangers_are_neither_markup_nor_formula(tmp_path: Path, out: Path) -> None:
    name = "<b>x $\\frac$ __"
    card: dict[str, str | float | int | bool] = {
        "labels.classes": 2,
        "spec.guarantee.unit": EVIL,
        "spec.guarantee.relation": EVIL,
    }
    evil = written_run(
        tmp_path / name,
        card=card,
        text=f"guarantee        {EVIL}\n{EVIL}\n",
        results={"<i>a_accuracy": RunResult(0.5, EVIL, EVIL)},
    )
    other = written_run(tmp_path / "other", card={"spec.sample_epsilon": 8.0})
    page = page_of(evil, other, out=out)
    found = read_page(page)
    tags = [tag for tag, _ in found.tags]
    assert not {"script", "b", "i", "frac"} & set(tags)
    assert found.text.count("<script>alert(1)</script> $\\frac{1}{0}$ \\x1b[2J \\u202e") >= 4
    # In the plot as well, where matplotlib would read a formula.
    labels = [attrs.get("aria-label") for tag, attrs in found.tags if tag == "svg"]
    assert labels.count("Accuracy against epsilon, run by run") == 1
    # Twice in headings, once in links and in each table, and once in the plot.
    assert [one.strip() for one in found.texts].count(name) >= 4
    ids = [attrs["id"] for _, attrs in found.tags if attrs.get("id")]
    assert len(ids) == len(set(ids))
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_an_unfinished_run_says_so_and_shows_what_there_is(tmp_path: Path, out: Path) -> None:
    text = read_page(page_of(written_run(tmp_path / "run", accuracy=None), out=out)).text
    assert "INCOMPLETE: it is still running, was stopped or crashed" in text
    assert "rank 2 after 8 steps" in text
    # Of the last evaluation: 75 % of 100 samples.
    assert "After 3 steps the network names 75.0 % of 100 held-out samples rightly" in text
    assert "training loss (nat)" in text


def test_missing_and_damaged_ranks_are_named(plain: Path, tmp_path: Path, out: Path) -> None:
    run = Path(shutil.copytree(plain, tmp_path / "run"))
    (run / "rank-001.h5").unlink()
    (run / "rank-002.h5").write_bytes(b"nothing")
    text = read_page(page_of(run, out=out)).text
    assert "rank 1: its file rank-001.h5 is missing" in text
    assert re.search(r"rank 2: .*(damaged|no HDF5)", text)
    assert "the computed step: the times of some trainers are not known" in text
    assert "87.5 % of 400 held-out samples" in text
    # What could be read is shown.
    assert "owner – trainer 1" in text  # noqa: RUF001
    assert str(tmp_path) not in out.read_text()


def test_a_folder_that_is_no_run_is_named_beside_one_that_is(plain: Path, out: Path) -> None:
    text = read_page(page_of(plain, plain.parent / "nothing", out=out)).text
    assert "nothing is not shown" in text
    assert "87.5 %" in text


def test_without_any_run_there_is_an_error_and_no_page(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path / "nothing"), "-o", str(out)]) == 2
    assert capsys.readouterr().err.startswith("clicooper: ")
    assert not out.exists()


def test_only_a_page_is_written_over(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def state() -> dict[Path, tuple[int, int]]:
        found = [*tmp_path.iterdir(), *plain.iterdir()]
        return {one: (os.lstat(one).st_ino, os.lstat(one).st_mtime_ns) for one in found}

    def refused(out: Path) -> str:
        before = state()
        assert main(["report", str(plain), "-o", str(out)]) == 2
        assert state() == before
        error = capsys.readouterr().err
        assert error.startswith(f"clicooper: {out}")
        assert error.count("\n") == 1
        return error

    assert "Give -o a name that ends in .html" in refused(plain / "run.h5")
    assert "lies in a run folder" in refused(plain / "page.html")
    (tmp_path / "other.html").write_text("<!DOCTYPE html>\n<title>mine</title>")
    (tmp_path / "empty.html").touch()
    (tmp_path / "folder.html").mkdir()
    os.mkfifo(tmp_path / "pipe.html")
    page = tmp_path / "page.html"
    first = page_of(plain, out=page)
    (tmp_path / "link.html").symlink_to(page)
    (tmp_path / "dangling.html").symlink_to("nothing")
    (tmp_path / "long.html").write_text(" " * 2000 + first)
    for name in ("other", "empty", "folder", "pipe", "link", "dangling", "long"):
        said = refused(tmp_path / f"{name}.html")
        assert "is no page of clicooper report, so it is not replaced" in said
        assert "move it away" in said
    page.write_text(first[:1000])
    assert page_of(plain, out=page) == first


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_without_the_extra_one_line_names_it(
    plain: Path,
    out: Path,
    package: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        "clicooper_hpc.report.page.find_spec",
        lambda name: None if name == package else find_spec(name),
    )
    assert main(["report", str(plain), "-o", str(out)]) == 5
    error = capsys.readouterr().err
    assert package in error
    assert 'pip install "clicooper-hpc[report]"' in error


def test_findings_of_attacks_are_shown_to_the_owner_alone(plain: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(plain, tmp_path / "run"))
    results = [
        AttackResult("decoder", "<b>deep</b>", "trainer 1", "SSIM", "honest", value, 0.1, 0.3, 0.05)
        for value in (0.2, 0.4)
    ]
    pictures = np.linspace(0, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)
    record = AttackRecord(
        {"run_id": str(open_run(run).attrs["run_id"])},
        [{name: getattr(one, name) for name in one.__slots__} for one in results],
        {("decoder", "trainer 1", 0, name): pictures for name in ("deep", "originals")},
    )
    (run / "private").mkdir(mode=0o700)
    write_attack_record(run / "private" / "attacks.h5", record)
    out = tmp_path / "page.html"
    assert "decoder" not in page_of(run, out=out)
    assert main(["report", str(run), "-o", str(out), "--attacks"]) == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    found = read_page(out.read_text())
    assert "FOR THE OWNER ALONE" in found.text
    assert "decoder, <b>deep</b> trainer 1 SSIM honest 0.3 [0.1, 0.3] 0.05" in found.text
    images = [attributes for tag, attributes in found.tags if tag == "img"]
    assert [image["alt"] for image in images] == [
        "decoder, trainer 1: originals",
        "decoder, trainer 1: deep",
    ]


def test_numbers_that_no_run_measures_leave_a_page(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wild = cycle([math.inf, -1e308, math.nan, 1e308, -math.inf, 1e308, 0.0])
    given = example.step_row

    def wild_row(rank: int, step: int, table: str = "steps") -> dict[str, Any]:
        row = given(rank, step, table)
        return {
            name: next(wild) if isinstance(value, float) else value if name == "step" else 2**62
            for name, value in row.items()
        }

    monkeypatch.setattr(example, "step_row", wild_row)
    runs = [
        written_run(
            tmp_path / f"run{epsilon:g}",
            accuracy=1e308,
            card={"spec.sample_epsilon": epsilon, "labels.classes": 1e308},
            results={"moments_accuracy": RunResult(-1e308, "1", "x")},
        )
        for epsilon in (1e308, 1e-308)
    ]
    text = read_page(page_of(*runs, out=out)).text
    # What no run measures is a dash.
    assert "epsilon of a sample – 1e-308 1 " in text  # noqa: RUF001


def test_a_run_that_cannot_be_shown_leaves_the_page_of_the_others(
    plain: Path, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Path(shutil.copytree(plain, tmp_path / "bad"))

    def fail(reading: RunReading, majority_share: float | None) -> RunVerdict:
        if reading.name == "bad":
            raise ValueError("/home/jane")
        return read_verdict(reading, majority_share)

    monkeypatch.setattr("clicooper_hpc.report.page.read_verdict", fail)
    text = read_page(page_of(bad, plain, out=out)).text
    assert "bad is not shown: a part of it has a form this program does not know" in text
    assert "jane" not in text
    assert "87.5 % of 400 held-out samples" in text


def changed(run: Path, **fields: Any) -> RunReading:
    """Return the reading of ``run`` as if its index said something else."""
    return RunReading(replace(open_run(run), **fields), PublicText.of_folder(run))


def test_several_runs_have_mean_and_spread(plain: Path) -> None:
    cards: list[tuple[float, dict[str, float]]] = [
        (0.5, {"spec.sample_epsilon": 1.0}),
        (0.6, {"spec.sample_epsilon": 2.0}),
        (0.85, {"private": False}),
    ]
    readings = [
        changed(plain, results={"clean_accuracy": share}, privacy={**CARD, **epsilon})
        for share, epsilon in cards
    ]
    found = compare_runs([(one, read_verdict(one), read_promise(one)) for one in readings])
    what = "Delivered model on clean held-out samples"
    assert found.rows == [
        # Over the two that have one: of n - 1, so 0.5 x sqrt(2).
        ("epsilon of a sample", "", ["1", "2", "infinite"], 2, "1.5", "0.7071", "1 .. 2"),
        (
            "clean_accuracy",
            what,
            ["50.0 %", "60.0 %", "85.0 %"],
            3,
            "65.0 %",
            "18.0 points",
            "50.0 % .. 85.0 %",
        ),
    ]
    assert found.differences == []
    assert [one.epsilon for one in found.points] == [1.0, 2.0, math.inf]


def test_results_that_cannot_be_are_called_so(plain: Path) -> None:
    impossible = {"clean_accuracy": 1.5, "clean_samples": 1.5}
    units = dict.fromkeys(impossible, "1")
    readings = [changed(plain, results=impossible, result_units=units), open_reading(plain)]
    verdicts = [read_verdict(one) for one in readings]
    wanted = "names 150.0 % (impossible) of 1.5 (impossible) held-out samples rightly"
    assert wanted in verdicts[0].headline
    assert verdicts[0].accuracy is None
    promises = map(read_promise, readings)
    found = compare_runs(list(zip(readings, verdicts, promises, strict=True)))
    # Neither counts in the mean.
    shown = {name: rest for name, _, *rest in found.rows}
    both = ["150.0 % (impossible)", "87.5 %"]
    assert shown["clean_accuracy"] == [both, 1, "87.5 %", number_text(None), "87.5 % .. 87.5 %"]
    assert shown["clean_samples"] == [
        ["1.5 (impossible)", "400"],
        1,
        "400",
        number_text(None),
        "400 .. 400",
    ]


def test_jobs_that_differ_are_told_without_paths(plain: Path) -> None:
    attrs = dict(open_run(plain).attrs)
    job = json.dumps({**example.JOB, "data": {"path": "/home/me/d.h5"}})
    other = changed(plain, attrs={**attrs, "resolved_job": job})
    readings = [open_reading(plain), other]
    found = compare_runs([(one, read_verdict(one), read_promise(one)) for one in readings])
    assert found.differences == [
        ("data.name", ["digits", "not there"]),
        ("data.path", ["not there", "d.h5"]),
    ]


def test_warnings_of_a_promise_are_said(plain: Path) -> None:
    card = {"front.kind": "conditional", "rng_mode": "reproducible-INSECURE"}
    promise = read_promise(changed(plain, privacy={**CARD, **card, "text": TEXT}))
    assert [text.split(":")[0] for text in promise.warnings] == ["CONDITIONAL", "INSECURE"]
    assert promise.card[1] == ("front", "public, glyphs")
    promise = read_promise(changed(plain, privacy={"private": False}))
    assert [text.split(":")[0] for text in promise.warnings] == ["NO PRIVACY"]
    assert promise.epsilon == math.inf


@pytest.mark.parametrize(
    ("unit", "relation", "words"),
    [
        ("sample", "replace-one", "had any one sample been any other, whatever"),
        ("element", "zero-out", "had the row of any one number of a sample's row been all zeros"),
        ("sample", "add-remove", "had any one sample not been there, or one more been, whatever"),
        ("metric", "replace-one", "had any one sample been another one within the distance"),
    ],
)
def test_a_promise_in_words(plain: Path, unit: str, relation: str, words: str) -> None:
    card = {"spec.guarantee.unit": unit, "spec.guarantee.relation": relation}
    promise = read_promise(changed(plain, privacy={**CARD, **card}))
    text = " ".join(promise.sentences)
    assert words in text
    # e^2 for epsilon 2, in the card of these runs.
    assert "factor e^epsilon = 7.389, but for a probability of delta = 1e-05" in text


def test_accuracy_is_held_against_guessing(plain: Path) -> None:
    results = {"clean_accuracy": 0.11, "clean_samples": 400}
    units = dict.fromkeys(results, "1")
    bad = read_verdict(changed(plain, results=results, result_units=units)).headline
    assert "guessing among 10 classes gives 10.0 %: no better than guessing" in bad
    # Wilson's interval of 350 right of 400, from its formula.
    good = read_verdict(open_reading(plain)).headline
    assert "87.5 % of 400 held-out samples rightly (95 % interval 83.9 % to 90.4 %)" in good
    assert "no better" not in good


def test_bytes_of_each_edge_and_the_computed_step(plain: Path) -> None:
    reading = open_reading(plain)
    # Rank r sends 1000 r + step bytes each way in steps 0 to 7: 8000 r + 28.
    assert [(one.ends[:9], one.forward, one.backward) for one in read_edge_traffic(reading)] == [
        ("owner – t", "28 B", "8.03 kB"),  # noqa: RUF001
        ("trainer 1", "8.03 kB", "16 kB"),
    ]
    times = read_rank_times(reading)
    # Five times of a quarter of a second in steps of 1 + rank + step / 100 seconds, at least 1.25.
    assert [round(one.total, 2) for one in times] == [10.0, 16.28, 24.28]
    assert times[2].seconds["other"] == pytest.approx(24.28 - 10.0)
    step = compute_step(reading, times)
    # Forward and backward take 0.25 s a step of two micro-batches: 1F1B on two trainers needs six
    # halves of them where each computes four, so a third is idle.
    assert step is not None
    assert step.makespan == pytest.approx(6 * 0.125)
    assert step.bubble == pytest.approx(1 / 3)


@pytest.mark.parametrize("schedule", ["rank 1: F0 B0", "1: F0 B0\n2: B0 F0", "1: F0\n3: F0", ""])
def test_a_schedule_that_is_none_is_not_computed(plain: Path, schedule: str) -> None:
    reading = changed(plain, pipeline={"schedule": schedule})
    assert compute_step(reading, read_rank_times(reading)) is None
    assert reading.gaps[0].startswith("the computed step: ")


@pytest.mark.parametrize(
    ("cache", "words"),
    [
        ("none", "The owner sends every row again in each epoch"),
        ("disk", "Trainer 1 stores the rows of the first epoch"),
        ([], ""),
    ],
)
def test_bytes_of_rows_are_explained_by_the_job(plain: Path, cache: object, words: str) -> None:
    job = json.dumps({**example.JOB, "release": {"cache": cache}})
    reading = changed(plain, attrs={**open_run(plain).attrs, "resolved_job": job})
    assert kept_rows_words(reading).startswith(words)
    assert bool(kept_rows_words(reading)) == bool(words)


def test_paths_become_names() -> None:
    public = PublicText.of_folder(Path("/home/jane doe/runs/first"))
    assert public.line("/home/jane doe/runs/first/run.h5: bad") == "first/run.h5: bad"
    assert public.line("in '/srv/data/x.h5' and/or 3/4 m/s") == "in 'x.h5' and/or 3/4 m/s"
    assert public.line("https://host/a/b") == "https://host/a/b"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot read '/home/jane doe/my data/x.h5' or \"/a b/c\"", "cannot read 'x.h5' or \"c\""),
        ("file:///home/jane/x.h5", "x.h5"),
        ("jane@node-7:/home/jane/x.h5, node7:~/x.h5", "x.h5, x.h5"),
        ("s3://bucket/jane/x.h5", "x.h5"),
        ("//srv/jane/x.h5", "x.h5"),
        ("~/x.h5 ~jane/data/x.h5 '~jane/my data/x.h5'", "x.h5 x.h5 'x.h5'"),
        ("../../jane/x.h5 ./x.h5 '../my data/'", "x.h5 x.h5 'my data/'"),
        ("--out=/home/jane/x.h5", "--out=x.h5"),
        # No paths.
        (
            "'https://host/a/b' and 'it/so' at 3 /4 ~ 5",
            "'https://host/a/b' and 'it/so' at 3 /4 ~ 5",
        ),
        ("delivery/segment-001.safetensors", "delivery/segment-001.safetensors"),
    ],
)
def test_paths_are_known_by_their_look(text: str, shown: str) -> None:
    assert PublicText({}).line(text) == shown


def test_long_texts_are_shortened_in_linear_time() -> None:
    # Far too many for anything that looks at each character from each character.
    for piece in ("a+", "/a", ")/", "'/", "'/a b", "~a", "../", "a:/", "@-"):
        PublicText({}).line(piece * 100_000)


def test_numbers() -> None:
    assert number_text("0.001234567") == "0.001235"
    assert [number_text(one) for one in (360, float("nan"), "x", None, True)][1:] == ["–"] * 4  # noqa: RUF001
    assert percent_text(0.80277) == "80.3 %"
    assert bytes_text(999) == "999 B"
    assert bytes_text(1_234_567) == "1.23 MB"


def test_a_run_plots_and_shows_itself(plain: Path) -> None:
    run = open_run(plain)
    loss, accuracy = run.plot()
    lines = {str(line.get_label()): np.asarray(line.get_ydata()) for line in loss.get_lines()}
    # Of rank r: r + 2 / (1 + step).
    assert {name: values[:2].tolist() for name, values in lines.items()} == {
        "trainer 1": [3.0, 2.0],
        "trainer 2": [4.0, 3.0],
    }
    shown: Any = loss.figure
    assert shown._repr_png_().startswith(b"\x89PNG")
    assert [line.get_label() for line in accuracy.get_lines()][-1] == "held-out samples, clean"
    assert repr(run) == f"<Run {plain}: complete, 2 trainers>"
    assert f"<strong>{plain}: complete, 2 trainers</strong><table>" in run._repr_html_()


def test_what_is_wider_than_a_screen_scrolls_by_keyboard_under_a_name(
    plain: Path, tmp_path: Path
) -> None:
    page = page_of(plain, plain, out=tmp_path / "page.html")
    found = read_page(page)
    regions = [tag for name, tag in found.tags if tag.get("class") == "wide"]
    # Every table, and nothing else on this page.
    assert len(regions) == page.count("<table") == page.count('tabindex="0"><table')
    for one in regions:
        assert one["role"] == "region"
        assert one["tabindex"] == "0"
        assert one["aria-label"]
