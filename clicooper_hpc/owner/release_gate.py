"""The release gate: charges, computes, checks and hands out everything that leaves about a sample.

`ReleaseGate.release` in its order: the charge of the whole split, stored in the privacy ledger; the
row by front, clip, noise and rounding (`ReleaseGate.compute_released_rows`); the comparison with
its receipt; then it is handed out. tests/owner/test_one_release_path.py holds that there is no
second way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clicooper_hpc.owner.budget import RunCosts
from clicooper_hpc.owner.row_source import RowSource
from clicooper_hpc.owner.secrets import OwnerSecrets
from clicooper_hpc.privacy.privacy_ledger import PrivacyEvent, PrivacyLedger
from clicooper_hpc.privacy.receipts import ReleaseReceipts
from clicooper_hpc.privacy.row_releaser import RowReleaser
from clicooper_hpc.runstore.tables.schema import SPLIT_CODES

__all__ = ["ReleaseGate", "ReleasedSplit"]


@dataclass(frozen=True, slots=True)
class ReleasedSplit:
    """What leaves as a split: its rows, what noises them, and what left of it before."""

    rows: RowSource
    releaser: RowReleaser
    receipts: ReleaseReceipts


class ReleaseGate:
    """Hands out released rows and sub-labels once the privacy ledger agrees: a privacy filter.

    Parameters
    ----------
    splits
        What may leave, by split: ``"train"`` and, if asked for, ``"validation"``.
    costs
        What leaving costs; the budget was checked for all of it before the gate was made.
    ledger
        The run's privacy ledger as it stands; entries of what leaves are added here.
    secrets
        Stores ledger and receipts.
    """

    def __init__(
        self,
        splits: Mapping[str, ReleasedSplit],
        costs: RunCosts,
        ledger: PrivacyLedger,
        secrets: OwnerSecrets,
    ) -> None:
        self.ledger = ledger
        self._splits = splits
        self._costs = costs
        self._secrets = secrets
        self._sub_labels: NDArray[np.int32] | None = None
        self._tabled = {name: np.zeros(len(one.rows), np.bool_) for name, one in splits.items()}

    def compute_released_rows(self, split: str, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Compute released rows, float32 [n, *row_shape], without handing them out.

        For the owner's own use, such as naming the samples: nothing is charged or noted.
        """
        one = self._splits[split]
        rows = one.rows.compute_rows(ids)
        flat = one.releaser.release_rows(rows.reshape(len(ids), -1), ids)
        return flat.reshape(len(ids), *one.rows.row_shape)

    def release(self, split: str, ids: NDArray[np.int64]) -> tuple[Tensor, int]:
        """Return released rows for the wire and the number of samples among them that are new.

        The first rows of a split charge all its samples, and the ledger is stored before they are
        handed out: a run that is killed and started again can only have charged too much.

        Raises
        ------
        BudgetExceededError
            If the ledger refuses; nothing has left then.
        ReleaseChangedError
            If a sample that left before would leave with other bytes.
        ValueError
            If training samples would leave before they were named (`set_sub_labels`).
        """
        # Only training samples have sub-labels, and their receipts hold both.
        labels = self._named() if split == "train" else None
        self._charge(self._costs.rows[split])
        rows = self.compute_released_rows(split, ids)
        # Receipts come last: what they note must be exactly what the caller sends.
        new = self._splits[split].receipts.add_receipts(
            ids, rows, None if labels is None else labels[ids]
        )
        return torch.from_numpy(rows), new

    def set_sub_labels(self, sub_labels: NDArray[np.int32]) -> None:
        """Take the sub-labels int32 [samples] of the training split; they leave with its rows."""
        # One too few would pair the rest with the labels of other samples.
        if len(sub_labels) != len(self._splits["train"].rows):
            raise ValueError(f"{len(sub_labels)} sub-labels are not one for each training sample")
        self._sub_labels = sub_labels

    def release_sub_labels(self) -> NDArray[np.int32]:
        """Charge and return the sub-labels of all training samples, int32 [samples].

        Raises
        ------
        BudgetExceededError
            If the ledger refuses; nothing has left then.
        """
        labels = self._named()
        self._charge(self._costs.labels)
        return labels

    def keep_receipts(self) -> None:
        """Store privately what has left so far."""
        for name, one in self._splits.items():
            self._secrets.store_receipts(name, one.receipts)

    def true_classes(self, split: str, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return true classes, int64 [n], for the owner's own evaluation; they must not leave."""
        return self._splits[split].rows.true_classes(ids)

    def note_tabled_release(self, split: str, ids: NDArray[np.int64]) -> None:
        """Note samples that kept rows of the table ``releases`` speak of, after a restart."""
        self._tabled[split][ids] = True

    def table_release(
        self, split: str, step: int, ids: NDArray[np.int64]
    ) -> dict[str, float | int]:
        """Return the row of the table ``releases`` for samples that were just sent."""
        # New is what is new in the table, not what is new to the receipts: these may know of more,
        # if an earlier start of the run ended before it saved the table.
        tabled = self._tabled[split]
        before = int(tabled.sum())
        tabled[ids] = True
        total = int(tabled.sum())
        costs, unit = self._costs, self._costs.rows[split].unit
        epsilon, delta = self.ledger.spent_epsilon(costs.delta, unit, costs.relation)
        return {
            "step": step,
            "split": SPLIT_CODES[split],
            "samples_new": total - before,
            "samples_total": total,
            "epsilon": epsilon,
            "epsilon_sample": self.ledger.spent_epsilon(costs.delta, "sample", costs.relation)[0],
            "delta": delta,
            "sigma": costs.sigma,
        }

    def _named(self) -> NDArray[np.int32]:
        if self._sub_labels is None:
            raise ValueError("the training samples have no sub-labels yet")
        return self._sub_labels

    def _charge(self, event: PrivacyEvent) -> None:
        """Charge a release once in a run, however often it is started again."""
        # The gate is opened again on each restart; what was charged then is charged for good.
        if any(
            (entry.split, entry.kind, entry.release) == (event.split, event.kind, event.release)
            for entry in self.ledger.entries
        ):
            return
        # Raises before anything is stored: a refused release leaves no trace.
        self.ledger.authorise_event(event)
        # Receipts are stored before the ledger, empty as they are: they are sealed with the key,
        # so a restart with another key is refused even if this process is killed before it saves.
        self._secrets.store_receipts(event.split, self._splits[event.split].receipts)
        self._secrets.store_ledger(self.ledger)
