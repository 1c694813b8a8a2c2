"""Names that other programs give the keys of a job: which key of ours somebody means."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import BaseModel

__all__ = ["job_keys", "suggest_key"]

#: By name elsewhere (PyTorch, Lightning, Hugging Face, Keras, timm, Opacus, DeepSpeed, Slurm), in
#: small letters with underscores. Several keys: the one of the section it was written in, else the
#: first.
OTHER_NAMES: Final[Mapping[str, Sequence[str]]] = {
    # Sections
    "dataset": ("data",),
    "network": ("model",),
    "train": ("training",),
    "trainer": ("training",),
    "optim": ("training.optimizer",),
    "optimiser": ("training.optimizer",),
    "dp": ("privacy",),
    "differential_privacy": ("privacy",),
    "checkpointing": ("checkpoint",),
    "cluster": ("slurm",),
    "sbatch": ("slurm",),
    # Data
    "data_dir": ("data.path",),
    "data_path": ("data.path",),
    "dataset_path": ("data.path",),
    "root": ("data.path",),
    "max_train_samples": ("data.train_rows",),
    "limit_train_batches": ("data.train_rows",),
    "max_eval_samples": ("data.test_rows",),
    "validation_split": ("data.validation_rows",),
    "val_split": ("data.validation_rows",),
    # Front
    "backbone": ("front.kind",),
    "encoder": ("front.kind",),
    "feature_extractor": ("front.kind",),
    "pretrained": ("front.weights",),
    "image_size": ("front.resize",),
    "img_size": ("front.resize",),
    "n_components": ("front.dim",),
    "embedding_dim": ("front.dim",),
    # Privacy
    "noise_multiplier": ("privacy.epsilon", "front.dp_sgd.epsilon"),
    "sigma": ("privacy.epsilon", "front.dp_sgd.epsilon"),
    "eps": ("privacy.epsilon", "front.dp_sgd.epsilon"),
    "target_epsilon": ("privacy.epsilon", "front.dp_sgd.epsilon"),
    "target_delta": ("privacy.delta", "front.dp_sgd.delta"),
    "max_epsilon": ("privacy.budget_epsilon",),
    "budget": ("privacy.budget_epsilon",),
    "l2_norm_clip": ("privacy.clip", "front.dp_sgd.clip"),
    "clipping_threshold": ("privacy.clip",),
    "sensitivity": ("privacy.clip",),
    "neighboring_relation": ("privacy.relation",),
    "adjacency": ("privacy.relation",),
    # Labels
    "gamma": ("labels.expansion",),
    "label_dp_epsilon": ("labels.randomized_response_epsilon",),
    # Model
    "arch": ("model.name",),
    "architecture": ("model.name",),
    "model_name": ("model.name",),
    "model_type": ("model.name",),
    "hidden_sizes": ("model.options",),
    "hidden_dim": ("model.options",),
    "hidden_size": ("model.options",),
    "n_layers": ("model.options",),
    "num_layers": ("model.options",),
    "num_hidden_layers": ("model.options",),
    "depth": ("model.options",),
    "dropout": ("model.options",),
    # Pipeline
    "num_stages": ("pipeline.segments",),
    "n_stages": ("pipeline.segments",),
    "stages": ("pipeline.segments", "provenance.stages"),
    "pipeline_stages": ("pipeline.segments",),
    "pp_size": ("pipeline.segments",),
    "pipeline_parallel_size": ("pipeline.segments",),
    "pipeline_model_parallel_size": ("pipeline.segments",),
    "world_size": ("pipeline.segments",),
    "chunks": ("pipeline.micro_batches",),
    "n_microbatches": ("pipeline.micro_batches",),
    "num_microbatches": ("pipeline.micro_batches",),
    "microbatches": ("pipeline.micro_batches",),
    "gradient_accumulation_steps": ("pipeline.micro_batches",),
    "accumulate_grad_batches": ("pipeline.micro_batches",),
    "balance": ("pipeline.partition",),
    "split_points": ("pipeline.partition",),
    "cuts": ("pipeline.partition",),
    "accelerator": ("pipeline.device",),
    "timeout": ("pipeline.timeout_s",),
    # Training
    "lr": ("training.learning_rate", "front.dp_sgd.learning_rate"),
    "max_lr": ("training.learning_rate",),
    "base_lr": ("training.learning_rate",),
    "bs": ("training.batch_size", "front.dp_sgd.batch_size"),
    "batch": ("training.batch_size", "front.dp_sgd.batch_size"),
    "batchsize": ("training.batch_size", "front.dp_sgd.batch_size"),
    "train_batch_size": ("training.batch_size",),
    "global_batch_size": ("training.batch_size",),
    "per_device_train_batch_size": ("training.batch_size",),
    "expected_batch_size": ("front.dp_sgd.batch_size",),
    "max_epochs": ("training.epochs", "front.dp_sgd.epochs"),
    "num_epochs": ("training.epochs", "front.dp_sgd.epochs"),
    "n_epochs": ("training.epochs", "front.dp_sgd.epochs"),
    "num_train_epochs": ("training.epochs",),
    "max_steps": ("training.epochs",),
    "wd": ("training.weight_decay",),
    "l2": ("training.weight_decay",),
    "adam_betas": ("training.betas",),
    "beta1": ("training.betas",),
    "beta2": ("training.betas",),
    "adam_beta1": ("training.betas",),
    "adam_beta2": ("training.betas",),
    "lr_scheduler": ("training.schedule",),
    "lr_scheduler_type": ("training.schedule",),
    "lr_schedule": ("training.schedule",),
    "scheduler": ("training.schedule", "pipeline.schedule"),
    "warmup": ("training.warmup_steps",),
    "warmup_ratio": ("training.warmup_steps",),
    "num_warmup_steps": ("training.warmup_steps",),
    "eta_min": ("training.final_fraction",),
    "min_lr": ("training.final_fraction",),
    "smoothing": ("training.label_smoothing",),
    "label_smoothing_factor": ("training.label_smoothing",),
    # Per-sample clipping of DP-SGD in Opacus, the network's gradient elsewhere.
    "max_grad_norm": ("training.clip_norm", "front.dp_sgd.clip"),
    "max_norm": ("training.clip_norm", "front.dp_sgd.clip"),
    "gradient_clip_val": ("training.clip_norm",),
    "gradient_clipping": ("training.clip_norm",),
    "clip_grad": ("training.clip_norm",),
    "clip_grad_norm": ("training.clip_norm",),
    "grad_clip": ("training.clip_norm",),
    "clipnorm": ("training.clip_norm",),
    "amp": ("training.precision",),
    "fp16": ("training.precision",),
    "bf16": ("training.precision",),
    "dtype": ("training.precision", "pipeline.wire_dtype"),
    "mixed_precision": ("training.precision",),
    "random_seed": ("training.seed", "privacy.seed", "front.seed"),
    "random_state": ("training.seed", "privacy.seed", "front.seed"),
    "num_threads": ("training.threads",),
    "eval_steps": ("training.evaluate_every_epochs",),
    "check_val_every_n_epoch": ("training.evaluate_every_epochs",),
    # Checkpoints, output
    "save_steps": ("checkpoint.every_steps",),
    "every_n_train_steps": ("checkpoint.every_steps",),
    "save_total_limit": ("checkpoint.keep",),
    "save_top_k": ("checkpoint.keep",),
    "max_time": ("checkpoint.stop_after_min",),
    # Slurm
    "queue": ("slurm.partition",),
    "time": ("slurm.time_min",),
    "walltime": ("slurm.time_min",),
    "gpus": ("slurm.gpus_per_node",),
    "gres": ("slurm.gpus_per_node",),
    "mem": ("slurm.memory_gib_per_task",),
    "modules": ("slurm.setup",),
}
#: What else must be said, where the same word would mean something else.
_NOTES: Final[Mapping[str, str]] = {
    "noise_multiplier": "the noise follows from it",
    "sigma": "the noise follows from it",
    "warmup_ratio": "in steps",
    "max_steps": "in passes over the data",
    "eval_steps": "in epochs",
    "validation_split": "in rows",
    "val_split": "in rows",
    "limit_train_batches": "in rows",
    "stages": "unless provenance.stages is meant, how many proofs each trainer makes",
    "world_size": "one less than the ranks",
    "eta_min": "as a part of learning_rate",
    "min_lr": "as a part of learning_rate",
    "time": "in minutes",
    "walltime": "in minutes",
    "max_time": "in minutes",
    "mem": "in GiB",
    "timeout": "in seconds",
}
#: Tables that are named, of those with a key of one name.
_MOST_TABLES: Final = 3
_FOR_NETWORK: Final = "the table of the network's own settings, docs/models.md"


def job_keys(model: type[BaseModel], at: str = "") -> dict[str, bool]:
    """Return every key of a job below ``model``, dotted, and whether it is a table of keys."""
    found: dict[str, bool] = {}
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found[f"{at}{name}"] = True
            found |= job_keys(kind, f"{at}{name}.")
        # How a job came to be loaded is no key.
        elif at or name != "folder":
            found[f"{at}{name}"] = False
    return found


def suggest_key(keys: Sequence[str], known: Mapping[str, bool]) -> str | None:
    """Return what to do about the unknown key ``keys`` (its path), None if nothing comes near.

    Other names of keys go first, then keys of this name in another table, then spelling mistakes.
    """
    section, name = ".".join(keys[:-1]), keys[-1].lower().replace("-", "_")
    here = [key for key in known if key.rpartition(".")[0] == section]
    elsewhere = [key for key in known if key.rpartition(".")[2] == name]
    # Read as other programs spell it; a key of ours is no other name in its own table.
    for key in _nearest_first(OTHER_NAMES.get(name, ()), section):
        note = _FOR_NETWORK if key == "model.options" else _NOTES.get(name, "")
        return f"It is {_named(key, known)} here{', ' if note else ''}{note}."
    if elsewhere:
        names = [_named(key, known) for key in _nearest_first(elsewhere, section)]
        return f"It belongs in another table: {' or '.join(names[:_MOST_TABLES])}."
    last = [key.rpartition(".")[2] for key in here]
    # A blunder of a letter or two in this table before all else.
    near = difflib.get_close_matches(name, last, n=1, cutoff=0.5)
    return f"Did you mean {near[0]}?" if near else None


def _nearest_first(keys: Sequence[str], section: str) -> list[str]:
    """Sort ``keys``: those of the table it was written in, then those below it, then the rest."""

    def distance(key: str) -> int:
        if key.rpartition(".")[0] == section:
            return 0
        return 1 if section and key.startswith(f"{section}.") else 2

    return sorted(keys, key=lambda key: (distance(key), key.count(".")))


def _named(key: str, known: Mapping[str, bool]) -> str:
    return f"[{key}]" if known.get(key) else key
