"""What was made of noised sums over all samples, as the owner keeps it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clicooper_hpc.fronts.operations import Scores
from clicooper_hpc.owner.evaluation import MomentBaselines
from clicooper_hpc.owner.moment_model import MomentModel
from clicooper_hpc.owner.synthetic_rows import SyntheticRows
from clicooper_hpc.runstore.safetensors_files import pack_safetensors, unpack_safetensors

__all__ = ["MomentsRelease"]


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
        }
        for name, one in (("moments", model), ("gradients", self.baselines.gradients)):
            if one is not None:
                tensors[f"{name}.matrix"] = torch.from_numpy(one.matrix)
                tensors[f"{name}.bias"] = torch.from_numpy(one.bias)
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
            scores = Scores(
                *(tensors[f"class-sums.{part}"] for part in ("offset", "matrix", "bias"))
            )
            # Class sums alone have none, and moments alone one.
            models = [
                MomentModel(tensors[f"{name}.matrix"].numpy(), tensors[f"{name}.bias"].numpy())
                for name in ("moments", "gradients")
                if f"{name}.matrix" in tensors
            ]
        except KeyError as error:
            raise ValueError(f"tensor {error} is missing") from None
        p, classes = scores.matrix.shape if scores.matrix.ndim == 2 else (0, 0)
        fit = (
            scores.offset.shape == (p,)
            and scores.bias.shape == (classes,)
            and all(one.matrix.shape == (p, classes) for one in models)
            and all(one.bias.shape == (classes,) for one in models)
            and ("moments.matrix" in tensors or "gradients.matrix" not in tensors)
            and table.ndim == 2
            and table.shape[1] == p
            and centre.shape == (p,)
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
            MomentBaselines(scores, *models) if models else MomentBaselines(scores, None),
        )
