"""Sections that the owner decides: front, release and labels.

The docstring under each key is its text in the generated reference (docs/job-file.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from clicooper_hpc.config.read_out import parse_read_out
from clicooper_hpc.config.section import Section

__all__ = [
    "MOST_PIXELS",
    "DpSgd",
    "FrontSection",
    "LabelsSection",
    "ReleaseMode",
    "ReleaseSection",
]


#: Most pixels a side that images may be scaled to.
MOST_PIXELS = 1024


class DpSgd(Section):
    """How a private front is trained (`front.kind = "dp-sgd"`)."""

    epsilon: float = Field(default=2.0, gt=0)
    """Epsilon of the front's training, unit sample (add-remove), added to the release's."""

    delta: float = Field(default=1e-6, gt=0, lt=1)
    """Delta of the front's training."""

    epochs: int = Field(default=5, ge=1)
    """Passes over the training split (Poisson sampling)."""

    batch_size: int = Field(default=256, ge=1)
    """Expected number of samples in a Poisson batch."""

    learning_rate: float = Field(default=0.5, gt=0)
    """Step size of SGD."""

    clip: float = Field(default=1.0, gt=0)
    """L2 norm every per-sample gradient is clipped to."""


class FrontSection(Section):
    """The owner's part of the network. It must not depend on private data, or pay for it."""

    kind: Literal["identity", "weights", "run", "random", "dct", "dp-sgd"] = "identity"
    """`identity`: the row itself. `weights`: public weights from a safetensors file. `run`: the
    network that a finished run delivered, once that run is verified. `random`: fixed random
    features. `dct`: the lowest frequencies of the discrete cosine transform.
    `dp-sgd`: trained on the private data by Opacus; its epsilon is composed with the release."""

    weights: Path | None = None
    """Safetensors file of a public front (`kind = "weights"`), relative to the job file."""

    run: Path | None = None
    """Folder of a finished run (`kind = "run"`), relative to the job file. It must have proofs; its
    rows must have been raw ones (`front.kind = "identity"`)."""

    cut: int | None = Field(default=None, ge=1)
    """Keep the layers before this index (`weights`, `run`; of a run, its own numbers of layers).
    Default: all layers."""

    read_outs: tuple[str, ...] = Field(default=(), max_length=16)
    """What to take from inside the network instead of its output (`weights`, `run`), as
    `"LAYERS:POOL"`, such as `["9:2x2", "12:2x2", "12:rms"]`: the output behind so many layers,
    pooled to its `mean`, to the means of `2x2` (to `8x8`) parts, to its root mean square `rms`, or
    `all` of it. One after the other they make one vector."""

    resize: int | None = Field(default=None, ge=1, le=MOST_PIXELS)
    """Scale images to so many pixels a side before the network (`weights`, `run`), bilinear with
    half-pixel centres, and averaged where they get smaller. The network must take that size.
    Default: as its file says."""

    mirror: bool = False
    """Take the mean of what the network gives for an image and for its mirror image
    (`weights`, `run`)."""

    dim: int | None = Field(default=None, ge=1)
    """Size of the features (`random`, `dct`, `dp-sgd`) or of the projection; `private-lda` has one
    number a class and takes none."""

    projection: Literal["none", "pca", "lda", "private-lda"] = "none"
    """Projection behind the front. `pca`, `lda`: linear, fitted on `public_data` only.
    `private-lda`: probabilities of the classes by LDA, whose class means are noised sums of
    `private_share` of the training samples, which are never released; they pay `privacy.epsilon`
    for it, once, instead. Everything else is fitted on `public_data`. Needs
    `privacy.unit = "sample"`."""

    directions: int | None = Field(default=None, ge=1)
    """Principal directions of the public rows that `private-lda` keeps before its class sums.
    Default: all in which they vary, at most 512. Noise grows with their number."""

    private_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the training samples, drawn in secret, that is spent on `private-lda`."""

    public_data: str | None = None
    """Data set (as `data.path`) the projection is fitted on. It must be public. Its labels serve
    `lda` and `private-lda`; they need not be the private classes."""

    public_rows: int | None = Field(default=None, ge=2)
    """Fit the projection on the first so many public samples. Default: all."""

    whiten: float = Field(default=0.0, ge=0, le=1)
    """Divide principal component i by eigenvalue_i ** (whiten / 2): 0 none, 0.5 half, 1 full."""

    normalise: bool = False
    """Scale every row to the clip norm before noise (a fixed rule, costs no privacy)."""

    seed: int = Field(default=0, ge=0, lt=2**62)
    """Seed of the `random` features. Public."""

    dp_sgd: DpSgd = DpSgd()
    """Settings of `kind = "dp-sgd"`."""

    @model_validator(mode="after")
    def _consistent(self) -> FrontSection:
        if self.kind == "weights" and self.weights is None:
            raise ValueError('front.kind = "weights" needs front.weights')
        if self.kind == "run" and self.run is None:
            raise ValueError('front.kind = "run" needs front.run, the folder of a finished run')
        if self.kind != "run" and self.run is not None:
            raise ValueError('front.run needs front.kind = "run"')
        for key in ("read_outs", "resize", "mirror"):
            if self.kind not in ("weights", "run") and getattr(self, key):
                raise ValueError(f'front.{key} needs front.kind = "weights" or "run"')
        for text in self.read_outs:
            read_out = parse_read_out(text)
            if self.cut is not None and read_out.after > self.cut:
                raise ValueError(
                    f"front.read_outs: {text!r} lies behind front.cut = {self.cut}, where the "
                    "network ends"
                )
        if self.directions is not None and self.projection != "private-lda":
            raise ValueError('front.directions needs front.projection = "private-lda"')
        # These make their features; the others have the size of the row or of the network.
        if self.kind in ("random", "dct", "dp-sgd") and self.dim is None:
            raise ValueError(f'front.kind = "{self.kind}" needs front.dim')
        if self.projection == "private-lda":
            if self.public_data is None:
                raise ValueError('front.projection = "private-lda" needs front.public_data')
            if self.dim is not None and self.kind in ("identity", "weights", "run"):
                raise ValueError(
                    'front.projection = "private-lda" has one number a class: take front.dim out'
                )
            if self.kind == "dp-sgd":
                raise ValueError(
                    'front.projection = "private-lda" charges samples that front.kind = "dp-sgd" '
                    "has charged already: use a public front"
                )
        elif self.projection != "none" and (self.public_data is None or self.dim is None):
            raise ValueError(
                f'front.projection = "{self.projection}" needs front.public_data and front.dim'
            )
        return self


#: What of the private data leaves: `ReleaseSection.mode`.
ReleaseMode = Literal["rows", "sums", "moments", "gradients"]


class ReleaseSection(Section):
    """What leaves the owner, once, and how it travels."""

    mode: ReleaseMode = "rows"
    """`rows`: a row for every sample, each with its own noise. `moments`: class sums, second moment
    and class sizes of all samples together, noised once; trainers get public rows with these
    moments, and no row of a sample. `sums`: of the class sums alone. `gradients`: as `moments`,
    then the owner improves the model that names the public rows by `rounds` steps, each of one
    noised sum of all samples' gradients; they share `privacy.epsilon`. The last three need
    `front.projection = "pca"`, whose public rows they are, `privacy.unit = "sample"` and one name a
    class."""

    mixes: int = Field(default=0, ge=0, le=255)
    """With sums of all samples: mixes of two public rows that trainers get beside each public row.
    They have the same moments, so they cost nothing; many classes need many rows."""

    sharpness: float = Field(default=1.0, ge=1, le=1000)
    """With sums of all samples: the exponent of the class probabilities by which rows are named.
    1: rows summed by name are what the model of the released sums expects. Above, names are surer:
    a network learns the same classes from fewer rows, but its probabilities are too sure too."""

    rounds: int = Field(default=20, ge=1, le=1000)
    """With `gradients`: number of rounds. Each gets its share of epsilon, so more are noisier."""

    gradient_share: float = Field(default=0.5, gt=0, lt=1)
    """With `gradients`: the part of mu^2 (of Gaussian differential privacy) that pays for all
    rounds together; the rest pays for the moments."""

    gradient_step: float = Field(default=64.0, gt=0, le=1e6)
    """With `gradients`: step size of gradient descent on the mean loss, for rows of norm 1. Half of
    it goes well with twice the rounds."""

    cache: Literal["none", "memory", "disk"] = "memory"
    """Where trainer 1 keeps released rows after their first pass. `none`: the owner sends the very
    same bits again in every epoch."""


class LabelsSection(Section):
    """The secret label map."""

    method: Literal["none", "random", "anchors"] = "random"
    """`random`: samples of a class are spread over its secret names by a keyed function. `anchors`:
    the name follows the Voronoi cell of the released row, with at least 8 cells of its own for each
    class. `none`: names are the classes. `clicooper plan` forecasts leak and price."""

    expansion: int = Field(default=4, ge=1)
    """Gamma: secret names per class."""

    randomized_response_epsilon: float | None = Field(default=None, gt=0)
    """Label differential privacy: the true class is kept with probability
    e^eps / (e^eps + K - 1). Default: off."""

    @model_validator(mode="after")
    def _consistent(self) -> LabelsSection:
        if self.method == "none" and self.expansion != 1:
            raise ValueError('labels.method = "none" needs labels.expansion = 1')
        # With fewer, the names whose mean rows cancel each other are those of one class.
        if self.method == "anchors" and self.expansion < 8:
            raise ValueError('labels.method = "anchors" needs labels.expansion of 8 or more')
        return self
