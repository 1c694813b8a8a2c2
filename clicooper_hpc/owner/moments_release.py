"""What leaves in ``release.mode = "moments"``: public rows and names made of noised moments.

The private samples enter here and nowhere else: their rows behind the public front are summed up
(`clicooper_hpc.privacy.moments`) and noised once. From the noised moments alone come the map that
recolours public rows, a linear model, and the names it gives those rows: post-processing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clicooper_hpc.data.split import Split
from clicooper_hpc.digests import Digest, digest_bytes
from clicooper_hpc.errors import UsageError
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.fronts.operations import Linear, Scores
from clicooper_hpc.fronts.private_lda import fit_private_lda
from clicooper_hpc.fronts.recolouring import fit_recolouring
from clicooper_hpc.owner.evaluation import MomentBaselines
from clicooper_hpc.owner.moment_model import MomentModel, choose_names, fit_moment_model
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.moments import (
    MOST_MOMENT_NUMBERS,
    Moments,
    MomentSums,
    moments_context,
    noised_moments,
)
from clicooper_hpc.privacy.release_spec import ReleaseSpec
from clicooper_hpc.runstore.safetensors_files import pack_safetensors, unpack_safetensors

__all__ = ["MomentsRelease", "check_moment_numbers", "make_moments_release", "moments_digest"]

_BLOCK = 4096


@dataclass(frozen=True, slots=True, eq=False)
class MomentsRelease:
    """Everything that was made of the noised moments, once.

    Attributes
    ----------
    recolouring
        Behind the front, of public rows alone.
    names
        Class of each public row, int64 [rows].
    baselines
        What the owner reaches with the moments alone, without any trainer.
    """

    recolouring: Linear
    names: NDArray[np.int64]
    baselines: MomentBaselines

    def recoloured_front(self, front: Front) -> Front:
        """Return what turns public rows into those that are released."""
        return front.append_operation(self.recolouring)

    def to_private_bytes(self) -> bytes:
        """Return the release for ``private/``: a restart releases the same bits anywhere."""
        scores, model = self.baselines.class_sums, self.baselines.moments
        tensors: dict[str, Tensor] = {
            "recolouring.offset": self.recolouring.offset,
            "recolouring.matrix": self.recolouring.matrix,
            "names": torch.from_numpy(self.names),
            "class-sums.offset": scores.offset,
            "class-sums.matrix": scores.matrix,
            "class-sums.bias": scores.bias,
            "moments.matrix": torch.from_numpy(model.matrix),
            "moments.bias": torch.from_numpy(model.bias),
        }
        return pack_safetensors(tensors, {})

    @classmethod
    def from_private_bytes(cls, stored: bytes, *, where: str) -> MomentsRelease:
        """Read `to_private_bytes`.

        Raises
        ------
        RunFolderError
            These are no such bytes.
        ValueError
            A tensor is missing, or has another type or shape.
        """
        tensors = unpack_safetensors(stored, where=where)
        try:
            names = tensors["names"].numpy()
            matrix, offset = tensors["recolouring.matrix"], tensors["recolouring.offset"]
            linear, bias = tensors["moments.matrix"], tensors["moments.bias"]
            scores = Scores(
                *(tensors[f"class-sums.{part}"] for part in ("offset", "matrix", "bias"))
            )
        except KeyError as error:
            raise ValueError(f"tensor {error} is missing") from None
        p, classes = linear.shape if linear.ndim == 2 else (0, 0)
        fit = (
            matrix.shape == (p, p)
            and offset.shape == (p,)
            and bias.shape == (classes,)
            and scores.matrix.shape == (p, classes)
            and scores.offset.shape == (p,)
            and scores.bias.shape == (classes,)
            and names.ndim == 1
        )
        kinds = {name: tensor.dtype for name, tensor in tensors.items() if name != "names"}
        if not fit or names.dtype != np.int64 or set(kinds.values()) != {torch.float64}:
            raise ValueError("its tensors do not fit together")
        return cls(
            Linear(offset, matrix),
            names,
            MomentBaselines(scores, MomentModel(linear.numpy(), bias.numpy())),
        )


def check_moment_numbers(numbers: int) -> None:
    """Refuse rows of so many numbers that their second moment would be mostly noise and memory.

    Raises
    ------
    UsageError
        More than `MOST_MOMENT_NUMBERS`.
    """
    if numbers > MOST_MOMENT_NUMBERS:
        raise UsageError(
            f'release.mode = "moments" takes at most {MOST_MOMENT_NUMBERS} numbers a row, '
            f"not {numbers}",
            where="front.dim",
            remedy=f"Set front.dim to at most {MOST_MOMENT_NUMBERS}.",
        )


def moments_digest(front: Front, train: Split, spec: ReleaseSpec | None) -> Digest:
    """Return what names the release; ``spec`` is None with privacy off."""
    if spec is None:
        named = f"{front.digest} {train.fingerprint()}".encode()
        return digest_bytes("clicooper/v1/plain-moments", named)
    return moments_context(front.digest, train.fingerprint(), spec).digest()


def make_moments_release(
    front: Front,
    train: Split,
    public: Split,
    classes: int,
    *,
    spec: ReleaseSpec | None,
    master: MasterKey,
) -> MomentsRelease:
    """Sum up the private rows of ``train``, noise the sums once, and make of them what leaves.

    ``public``: the samples whose rows are to be recoloured and named.
    """
    width = int(np.prod(front.output_shape))
    sums = MomentSums(classes, width, spec)
    for rows, labels in _blocks(front, train):
        sums.add_rows(rows, labels)
    moments = Moments(
        sums.sums.astype(np.float64),
        sums.second.astype(np.float64),
        sums.sizes.astype(np.float64),
        sums.samples,
        0.0,
    )
    if spec is not None:
        context = moments_context(front.digest, train.fingerprint(), spec)
        moments = noised_moments(sums, context, master)
    # From here on private samples are only in the moments.
    parts = list(_blocks(front, public))
    marginal = np.concatenate([part[0].astype(np.float64) for part in parts])
    recolouring = fit_recolouring(marginal, moments)
    recoloured = (marginal - recolouring.offset.numpy()) @ recolouring.matrix.numpy()
    model = fit_moment_model(recoloured, moments)
    each = moments.samples / classes
    scores = fit_private_lda(
        moments.sums / each,
        marginal,
        np.concatenate([part[1] for part in parts]),
        noise=moments.sigma / each,
        samples=each,
    )
    return MomentsRelease(
        recolouring,
        choose_names(recoloured, model.class_probabilities(recoloured)),
        MomentBaselines(scores, model),
    )


def _blocks(front: Front, split: Split) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Yield rows behind the front, float32 [n, p], and classes, int64 [n], some thousand a time."""
    for start in range(0, len(split), _BLOCK):
        ids = np.arange(start, min(start + _BLOCK, len(split)))
        yield front.apply(split.read(ids)).reshape(len(ids), -1), split.labels(ids)
