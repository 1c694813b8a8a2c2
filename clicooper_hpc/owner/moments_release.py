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
from clicooper_hpc.fronts.operations import Scores
from clicooper_hpc.fronts.private_lda import fit_private_lda
from clicooper_hpc.fronts.recolouring import fit_recolouring
from clicooper_hpc.owner.evaluation import MomentBaselines
from clicooper_hpc.owner.moment_model import MomentModel, choose_names, fit_moment_model
from clicooper_hpc.owner.synthetic_rows import SyntheticRows, mixed_rows
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

__all__ = [
    "MomentsRelease",
    "Naming",
    "check_moment_numbers",
    "make_moments_release",
    "moments_digest",
]

_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Naming:
    """How many rows are made of the moments, and how surely they are named.

    ``mixes``: as in `SyntheticRows`. ``sharpness``: exponent of the class probabilities that names
    are chosen by; at 1 the rows summed by name have the moments' class sums.
    """

    mixes: int = 0
    sharpness: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class MomentsRelease:
    """Everything that was made of the noised moments, once.

    Attributes
    ----------
    rows
        What trainers get.
    baselines
        What the owner reaches with the moments alone, without any trainer.
    """

    rows: SyntheticRows
    baselines: MomentBaselines

    def to_private_bytes(self) -> bytes:
        """Return the release for ``private/``: a restart releases the same bits anywhere."""
        scores, model = self.baselines.class_sums, self.baselines.moments
        tensors: dict[str, Tensor] = {
            "rows.table": torch.from_numpy(self.rows.table),
            "rows.centre": torch.from_numpy(self.rows.centre),
            "rows.names": torch.from_numpy(self.rows.names),
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
            table, names = tensors["rows.table"], tensors["rows.names"]
            centre = tensors["rows.centre"]
            linear, bias = tensors["moments.matrix"], tensors["moments.bias"]
            scores = Scores(
                *(tensors[f"class-sums.{part}"] for part in ("offset", "matrix", "bias"))
            )
        except KeyError as error:
            raise ValueError(f"tensor {error} is missing") from None
        p, classes = linear.shape if linear.ndim == 2 else (0, 0)
        fit = (
            table.ndim == 2
            and table.shape[1] == p
            and centre.shape == (p,)
            and bias.shape == (classes,)
            and scores.matrix.shape == (p, classes)
            and scores.offset.shape == (p,)
            and scores.bias.shape == (classes,)
            and names.ndim == 1
            and len(table) > 0
            and len(names) > 0
            and len(names) % len(table) == 0
        )
        kinds = {"rows.table": torch.float32, "rows.names": torch.int64}
        typed = all(
            tensor.dtype == kinds.get(name, torch.float64) for name, tensor in tensors.items()
        )
        # A name that is no class would be one more output of the network.
        if not fit or not typed or not 0 <= int(names.min()) <= int(names.max()) < classes:
            raise ValueError("its tensors do not fit together")
        return cls(
            SyntheticRows(table.numpy(), centre.numpy(), names.numpy()),
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
    naming: Naming,
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
    table, centre = recoloured.astype(np.float32), recoloured.mean(axis=0)
    each = moments.samples / classes
    scores = fit_private_lda(
        moments.sums / each,
        marginal,
        np.concatenate([part[1] for part in parts]),
        noise=moments.sigma / each,
        samples=each,
    )
    names = []
    for mix in range(1 + naming.mixes):
        # Round by round: all mixes at once need not fit into memory.
        part = mixed_rows(table, centre, np.arange(len(table)) + mix * len(table))
        mixed = part.astype(np.float64)
        names.append(
            choose_names(mixed, model.class_probabilities(mixed, sharpness=naming.sharpness))
        )
    return MomentsRelease(
        SyntheticRows(table, centre, np.concatenate(names)), MomentBaselines(scores, model)
    )


def _blocks(front: Front, split: Split) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Yield rows behind the front, float32 [n, p], and classes, int64 [n], some thousand a time."""
    for start in range(0, len(split), _BLOCK):
        ids = np.arange(start, min(start + _BLOCK, len(split)))
        yield front.apply(split.read(ids)).reshape(len(ids), -1), split.labels(ids)
