"""Keys as other programs call them are answered with ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from clicooper_hpc.config.job import Job
from clicooper_hpc.config.load_job import load_job
from clicooper_hpc.config.other_names import OTHER_NAMES, job_keys, suggest_key
from clicooper_hpc.errors import UsageError

KNOWN = job_keys(Job)


def test_every_answer_is_a_key_of_another_name() -> None:
    for name, keys in OTHER_NAMES.items():
        assert set(keys) <= set(KNOWN), name
        assert name == name.lower().replace("-", "_")
        # Else a key of ours that stands in the wrong table would be taken for a word of others.
        assert keys[0].rpartition(".")[2] != name, name


@pytest.mark.parametrize(
    ("key", "answer"),
    [
        ("training.lr", "training.learning_rate"),
        ("front.dp_sgd.lr", "front.dp_sgd.learning_rate"),
        ("training.max_grad_norm", "training.clip_norm"),
        ("front.dp_sgd.max_grad_norm", "front.dp_sgd.clip"),
        ("training.gradient_clip_val", "training.clip_norm"),
        ("pipeline.stages", "pipeline.segments"),
        ("training.batch", "training.batch_size"),
        ("training.bs", "training.batch_size"),
        ("privacy.noise_multiplier", "privacy.epsilon"),
        ("privacy.target-epsilon", "privacy.epsilon"),
        ("model.n_layers", "model.options"),
        ("training.Max_Epochs", "training.epochs"),
        ("trainer", "[training]"),
        ("lr", "training.learning_rate"),
        # Ours, in another table.
        ("training.segments", "pipeline.segments"),
        ("epsilon", "privacy.epsilon"),
        # Spelling mistakes.
        ("training.epohs", "Did you mean epochs?"),
        ("pipelin", "Did you mean pipeline?"),
    ],
)
def test_the_answer_names_the_key(key: str, answer: str) -> None:
    said = suggest_key(key.split("."), KNOWN)
    assert said is not None
    # Whole: no part of a longer key.
    assert f" {answer} " in f" {said.rstrip('.').replace(',', ' ')} "


def test_a_word_that_means_nothing_is_answered_with_all_keys(tmp_path: Path) -> None:
    assert suggest_key(["training", "xyzzy"], KNOWN) is None
    job = tmp_path / "job.toml"
    job.write_text('[data]\npath = "digits"\n[training]\nxyzzy = 1\n')
    with pytest.raises(UsageError, match="Known keys: average_rows, batch_size"):
        load_job(job)
    job.write_text('[data]\npath = "digits"\n[training]\nlr = 1\n')
    with pytest.raises(UsageError) as raised:
        load_job(job)
    assert raised.value.line() == (
        f"{job}:4: unknown key training.lr. It is training.learning_rate here."
    )
