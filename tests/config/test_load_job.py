"""The job file: what it accepts, and the one line it answers to each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from clicooper_hpc.config.job import Job
from clicooper_hpc.config.load_job import load_canonical_job, load_job
from clicooper_hpc.config.reference import reference_job, reference_page
from clicooper_hpc.errors import ExitCode, RunFolderError, UsageError

ROOT = Path(__file__).resolve().parents[2]
GOOD = '[data]\npath = "digits"\n'

MISTAKES = {
    "unknown key": (GOOD + "[training]\nepoch = 3\n", ["job.toml:4", "training.epoch", "epochs?"]),
    "unknown section": (GOOD + "[pipelin]\nsegments = 2\n", ["job.toml:3", "pipeline?"]),
    "out of range": (GOOD + "[training]\nepochs = 0\n", ["job.toml:4", "epochs", "got 0"]),
    "wrong type": (GOOD + '[training]\nepochs = "x"\n', ["job.toml:4", "training.epochs"]),
    "wrong word": (GOOD + '[labels]\nmethod = "rnd"\n', ["job.toml:4", "'random'", "got 'rnd'"]),
    "missing key": ("[training]\nepochs = 1\n", ["key data is missing"]),
    "not TOML": (GOOD + "[training\n", ["not valid TOML", "line 3"]),
    "half a budget": (GOOD + "[privacy]\nbudget_epsilon = 3.0\n", ["budget_delta", "go together"]),
    "privacy off with a budget": (
        GOOD + "[privacy]\nenabled = false\nbudget_epsilon = 3.0\nbudget_delta = 1e-5\n",
        ["spends without limit"],
    ),
    "metric without distance": (GOOD + '[privacy]\nunit = "metric"\n', ["metric_distance"]),
    "names without method": (
        GOOD + '[labels]\nmethod = "none"\nexpansion = 4\n',
        ["labels.expansion = 1"],
    ),
    "front without weights": (GOOD + '[front]\nkind = "weights"\n', ["front.weights"]),
    "projection without data": (GOOD + '[front]\nprojection = "pca"\n', ["front.public_data"]),
    "more micro-batches than rows": (
        GOOD + "[pipeline]\nmicro_batches = 9\n[training]\nbatch_size = 8\n",
        ["micro_batches = 9", "batch_size = 8"],
    ),
    "cuts against segments": (
        GOOD + "[pipeline]\nsegments = 4\npartition = [1, 2]\n",
        ["3 segments", "segments = 4"],
    ),
    "empty path": ('[data]\npath = ""\n', ["data.path", "is empty"]),
    "empty path of a run": (GOOD + '[front]\nkind = "run"\nrun = " "\n', ["front.run", "is empty"]),
    "bad extends": ("extends = 3\n" + GOOD, ["extends"]),
    "missing base": ('extends = "nowhere.toml"\n' + GOOD, ["nowhere.toml", "no such job file"]),
}


def write(folder: Path, text: str, name: str = "job.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gives_one_line_with_place_and_remedy(tmp_path: Path, mistake: str) -> None:
    text, wanted = MISTAKES[mistake]
    with pytest.raises(UsageError) as caught:
        load_job(write(tmp_path, text))
    line = caught.value.line()
    assert "\n" not in line
    assert caught.value.exit_code is ExitCode.USAGE
    for part in wanted:
        assert part in line


def test_missing_job_file_names_init(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="clicooper init"):
        load_job(tmp_path / "no.toml")


def test_extends_merges_tables_and_paths_belong_to_their_file(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    write(tmp_path, '[data]\npath = "set.h5"\n[training]\nepochs = 7\n', "base/base.toml")
    top = write(tmp_path, 'extends = "base/base.toml"\n[training]\nbatch_size = 32\n')
    job = load_job(top)
    assert job.training.epochs == 7
    assert job.training.batch_size == 32
    assert job.data.path == str(tmp_path / "base" / "set.h5")


def test_a_base_may_not_extend_again(tmp_path: Path) -> None:
    write(tmp_path, 'extends = "c.toml"\n' + GOOD, "b.toml")
    with pytest.raises(UsageError, match="One level of extends"):
        load_job(write(tmp_path, 'extends = "b.toml"\n'))


def test_set_overrides_and_bare_words_are_text(tmp_path: Path) -> None:
    job = load_job(
        write(tmp_path, GOOD),
        [
            "labels.method=anchors",
            "labels.expansion=8",
            "training.epochs=2",
            "pipeline.partition=[1, 2]",
        ],
    )
    assert job.labels.method == "anchors"
    assert job.training.epochs == 2
    assert job.pipeline.partition == [1, 2]


def test_options_are_replaced_whole_with_their_network(tmp_path: Path) -> None:
    text = GOOD + '[model]\nname = "mlp"\noptions = { widths = [8] }\n'
    job = load_job(write(tmp_path, text), ["model.name=vgg", "model.options={ channels = [8] }"])
    assert job.model.options == {"channels": [8]}
    text = GOOD + "[model]\noptions = { widths = [8], dropout = 0.5 }\n"
    job = load_job(write(tmp_path, text), ["model.options.widths=[4]"])
    assert job.model.options == {"widths": [4], "dropout": 0.5}


@pytest.mark.parametrize("text", ["training.epochs", "epochs=3", "=3", "training.epochs=zero"])
def test_bad_set_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"--set|epochs"):
        load_job(write(tmp_path, GOOD), [text])


def test_canonical_text_rebuilds_the_same_job(tmp_path: Path) -> None:
    job = load_job(write(tmp_path, GOOD), ["training.learning_rate=0.1"])
    again = load_canonical_job(job.canonical())
    assert again.digest() == job.digest()
    assert again.training.learning_rate == 0.1


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [('"training":', '"lessons":', "lessons"), ("{", "", "resolved_job")],
)
def test_a_stored_job_of_another_version_is_one_line(old: str, new: str, named: str) -> None:
    stored = Job.model_validate({"data": {"path": "digits"}}).canonical().replace(" ", "")
    assert old in stored
    with pytest.raises(RunFolderError, match=rf"{named}.*[Uu]se the version that made the run"):
        load_canonical_job(stored.replace(old, new, 1))


@pytest.mark.parametrize(("ranks", "fits"), [(4, True), (3, False), (1, False)])
def test_rank_count_is_checked_and_the_fix_is_named(ranks: int, fits: bool) -> None:
    job = Job.model_validate({"data": {"path": "digits"}, "pipeline": {"segments": 3}})
    if fits:
        assert job.check_ranks(ranks) == 3
        return
    with pytest.raises(UsageError, match="mpirun -n 4 clicooper run"):
        job.check_ranks(ranks)


def test_reference_page_is_generated_from_the_models() -> None:
    assert (ROOT / "docs" / "job-file.md").read_text() == reference_page(), "run: make docs"


def test_init_job_is_valid_and_every_shipped_job_loads(tmp_path: Path) -> None:
    load_job(write(tmp_path, reference_job({"data": {"path": "digits"}})))
    shipped = sorted((ROOT / "jobs").glob("*.toml"))
    assert shipped
    for path in shipped:
        load_job(path)


def _number_keys() -> list[str]:
    """Return all keys of a job whose value is one number with a point."""
    sections = {name: info.annotation for name, info in Job.model_fields.items()}
    return [
        f"{section}.{key}"
        for section, kind in sections.items()
        for key, info in getattr(kind, "model_fields", {}).items()
        if info.annotation in (float, float | None)
    ]


def test_no_number_of_a_job_may_be_infinite(tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text(GOOD)
    keys = _number_keys()
    assert {"privacy.epsilon", "privacy.account_epsilon", "training.learning_rate"} <= set(keys)
    for key in keys:
        for value in ("inf", "1e400", "nan"):
            with pytest.raises(UsageError, match=key):
                load_job(job, [f"{key}={value}"])
