"""Sections owner and trainers share: model, pipeline, training, proofs, checkpoints, output.

The docstring under each key is its text in the generated reference (docs/job-file.md).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from clicooper_hpc.config.section import Section

__all__ = [
    "CheckpointSection",
    "ModelSection",
    "OutputSection",
    "PipelineSection",
    "ProvenanceSection",
    "TrainingSection",
]

Beta = Annotated[float, Field(ge=0, lt=1)]
PublicKey = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ModelSection(Section):
    """The network behind the cut, divided among the trainers."""

    name: str = "mlp"
    """`mlp`, `vgg`, `resnet11`, `resnet18`, `vit`; your own as `"module:function"` (a function that
    returns an `nn.Module`; the module may lie beside the job file); or one of a package that is
    installed, as `"torchvision:resnet18"` or `"timm:convnext_atto"`."""

    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the network, see docs/models.md."""

    batch_norm: Literal["refuse", "group-norm"] = "refuse"
    """What becomes of batch normalisation, which mixes rows, in a network that is not built in.
    `group-norm`: each becomes a GroupNorm over as many channels, so it is another network."""

    cuts: Literal["single", "any"] = "single"
    """Where a network that is no `nn.Sequential` can be cut. `single`: where one tensor crosses, as
    between residual blocks. `any`: also where several do; they travel side by side as one."""


class PipelineSection(Section):
    """How segments are cut, coupled and scheduled."""

    segments: int | None = Field(default=None, ge=1)
    """Number of trainers. Default: one less than the ranks started. When given, the number of
    ranks must be one more."""

    coupling: Literal["backprop", "one-way"] = "backprop"
    """`backprop`: gradients flow between neighbouring trainers (never to the owner). `one-way`:
    each trainer learns with a local head, no gradient crosses any boundary."""

    schedule: Literal["1f1b", "gpipe"] = "1f1b"
    """Order of forwards and backwards in a step (coupling `backprop`)."""

    micro_batches: int = Field(default=8, ge=1)
    """Parts a batch is cut into; at least as many as trainers."""

    partition: Literal["auto", "flops"] | list[int] = "flops"
    """Where the network is cut among trainers. `flops`: balance counted operations (the same cuts
    everywhere). `auto`: balance the times each rank measures. A list such as `[3, 6]`: the index
    of the first layer of the second, third, ... segment."""

    memory_gib: list[float] | None = None
    """Memory limit of each trainer, for `auto` and `flops`. Default: no limit."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the trainers. `auto`: the GPU with the rank's local number, else the CPU."""

    wire_dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of activations and gradients between trainers (the release stays float32)."""

    timeout_s: float = Field(default=300.0, gt=0)
    """A rank that waits longer than this for one message ends the job with an error that names
    the peer, the direction, the step and the micro-batch."""

    startup_timeout_s: float = Field(default=3600.0, gt=0)
    """As `timeout_s`, until the first step (fitting a front may take long) and while the owner
    takes delivery and evaluates."""


class TrainingSection(Section):
    """Optimisation."""

    epochs: int = Field(default=10, ge=1)
    """Passes over the released training rows."""

    batch_size: int = Field(default=256, ge=1)
    """Rows that enter segment 1 in a step (after averaging)."""

    average_rows: int = Field(default=1, ge=1)
    """Trainer 1 feeds means of so many released rows with the same sub-label: pure
    post-processing, and what lets deep segments learn under strict noise."""

    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Update rule of every segment."""

    learning_rate: float = Field(default=0.05, gt=0, allow_inf_nan=False)
    """Base step size."""

    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of SGD."""

    weight_decay: float = Field(default=5e-4, ge=0)
    """Weight decay (decoupled in AdamW)."""

    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Averaging coefficients of AdamW."""

    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """Course of the learning rate after the warm-up."""

    warmup_steps: int = Field(default=0, ge=0)
    """Steps in which the learning rate rises linearly from zero."""

    final_fraction: float = Field(default=0.0, ge=0, le=1)
    """Learning rate at the end, as a fraction of `learning_rate`."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Smoothing of the sub-label targets."""

    clip_norm: float | None = Field(default=None, gt=0)
    """Clip the gradient's global L2 norm (over all segments in `backprop`, per segment in
    `one-way`). Default: off."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """`bfloat16` runs segments under autocast."""

    seed: int = Field(default=0, ge=0, lt=2**62)
    """Seed of initial weights, data order and dropout. Public; has nothing to do with noise."""

    threads: int = Field(default=1, ge=1)
    """Intra-operator threads of each rank."""

    evaluate_every_epochs: int = Field(default=0, ge=0)
    """Deliver the segments to the owner and evaluate on clean held-out data every so many epochs.
    0: only at the end."""


class ProvenanceSection(Section):
    """Proofs, marks and the ledger, see docs/provenance.md."""

    enabled: bool = True
    """Prove every training stage: signed proofs, hand-offs signed by both sides, a ledger."""

    stages: int = Field(default=5, ge=1, le=2000)
    """Training stages the run is divided into, as even as can be. Each ends in one proof per
    segment and one checkpoint, and is what `clicooper audit` replays."""

    marks: Literal["auto", "required", "off"] = "auto"
    """Marks in the weights. `auto`: segments too small to carry one go without, and the run says
    so; `required`: such a run is refused."""

    mark_every_steps: int = Field(default=10, ge=1)
    """Put the mark in every so many steps of a stage, and at its end."""

    mark_distortion: float = Field(default=0.004, gt=0, le=0.05)
    """Most of the weights' energy one mark may change, as a fraction."""

    identities: str | None = None
    """Ed25519 keys of the ranks: PEM files, with `{rank}` for the rank, such as
    `"keys/rank-{rank}.pem"` (made by `clicooper keys new`; passwords come from the environment
    variable `CLICOOPER_KEY_PASSWORD`). Unlike other paths, relative to the job file's folder
    wherever it is set. Default: every rank makes one for this run, and says so."""

    owner: PublicKey | None = None
    """The owner's public key (64 hexadecimal digits). Trainers refuse any other."""

    trainers: list[PublicKey] | None = None
    """Public keys of the trainers, in order of their segments. The owner refuses any other."""

    keep_checkpoints: bool = True
    """Keep each stage's checkpoint in the run folder: without them there is no audit."""


class CheckpointSection(Section):
    """What `clicooper resume` continues from, see docs/restarting.md."""

    every_steps: int = Field(default=0, ge=0)
    """Save after every so many steps too. 0: only at the end of each training stage, or of each
    epoch where there are no stages."""

    keep: int = Field(default=2, ge=1, le=100)
    """Newest checkpoints that are kept. An older one goes only when the next is whole."""

    stop_after_min: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Save, stop and exit with 75 so many minutes after the start. Default: no limit of its own."""


class OutputSection(Section):
    """What is written."""

    layout: Literal["shards", "single"] = "shards"
    """`shards`: one file per rank behind one index. `single`: one file through parallel HDF5
    (needs an h5py built with MPI)."""

    record_wire: bool = False
    """Record every message a rank sends under `RUN/wire/`, to see what leaves it (from the contract
    on; before it, ranks exchange only the job)."""
