"""The desk every released row passes: the ledger is asked first, then the row may leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from clicooper_hpc.owner.secrets import OwnerSecrets
from clicooper_hpc.owner.stream import ReleaseStream
from clicooper_hpc.privacy.ledger import Event, Ledger
from clicooper_hpc.privacy.sensitivity import Relation
from clicooper_hpc.privacy.spec import ReleaseSpec
from clicooper_hpc.runstore.tables.schema import SPLIT_CODES

__all__ = ["ReleaseCost", "ReleaseGate"]


@dataclass(frozen=True, slots=True)
class ReleaseCost:
    """What the release of one sample of a split costs: an event for one sample, to be scaled."""

    event: Event

    def of(self, samples: int) -> Event:
        """Return the event for ``samples`` samples."""
        return replace(self.event, samples=samples)


class ReleaseGate:
    """Hands out released rows after the ledger has agreed.

    Parameters
    ----------
    labels
        What it costs to send the sub-labels of all training samples.
    spec
        None with privacy off.
    delta
        Total delta at which spent epsilon is stated.
    relation
        Neighbours it is stated for.
    secrets
        Keeps ledger and receipts.
    """

    def __init__(
        self,
        ledger: Ledger,
        streams: Mapping[str, ReleaseStream],
        tariffs: Mapping[str, ReleaseCost],
        *,
        labels: Event,
        spec: ReleaseSpec | None,
        delta: float,
        relation: Relation,
        secrets: OwnerSecrets,
    ) -> None:
        self.ledger = ledger
        self._secrets = secrets
        self._labels = labels
        self._streams = streams
        self._tariffs = tariffs
        self._spec = spec
        self._delta = delta
        self._relation: Relation = relation
        self._listed = {name: np.zeros(len(stream), np.bool_) for name, stream in streams.items()}

    def rows(self, split: str, ids: NDArray[np.int64]) -> tuple[Tensor, int]:
        """Return released rows and the number of samples among them that are new.

        The first rows of a split charge all its samples, and the ledger is stored before they are
        handed out: a run that is killed and started again can only have charged too much.

        Raises
        ------
        BudgetExceededError
            If the ledger refuses; nothing has left then.
        """
        stream = self._streams[split]
        self._authorise(self._tariffs[split].of(len(stream)))
        return stream.to_send(ids)

    def authorise_labels(self) -> None:
        """Ask the ledger for the sub-labels of all training samples; call before they are sent."""
        self._authorise(self._labels)

    def keep_receipts(self) -> None:
        """Store privately what has left so far."""
        for split in self._tariffs:
            self._secrets.keep_receipts(split, self._streams[split].receipts)

    def _authorise(self, event: Event) -> None:
        """Charge a release once in the life of the run.

        Receipts are stored first, empty as they are: they are sealed with the key, so a later life
        with another key is refused even if this one is killed before it saves.
        """
        if any(
            (entry.split, entry.kind, entry.release) == (event.split, event.kind, event.release)
            for entry in self.ledger.entries
        ):
            return
        self.ledger.authorise(event)
        self._secrets.keep_receipts(event.split, self._streams[event.split].receipts)
        self._secrets.keep_ledger(self.ledger)

    def classes(self, split: str, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return true classes, for the owner's own evaluation."""
        return self._streams[split].split.labels(ids)

    def list_again(self, split: str, ids: NDArray[np.int64]) -> None:
        """Note samples that rows of the table ``releases`` from an earlier life speak of."""
        self._listed[split][ids] = True

    def row(self, split: str, step: int, ids: NDArray[np.int64]) -> dict[str, float | int]:
        """Return the row of the table ``releases`` for samples that were just sent.

        What is new is so in the table: receipts may know of more, if an earlier life ended before
        it saved.
        """
        listed = self._listed[split]
        before = int(listed.sum())
        listed[ids] = True
        total = int(listed.sum())
        unit = self._tariffs[split].event.unit
        epsilon, delta = self.ledger.spent(self._delta, unit, self._relation)
        return {
            "step": step,
            "split": SPLIT_CODES[split],
            "samples_new": total - before,
            "samples_total": total,
            "epsilon": epsilon,
            "epsilon_sample": self.ledger.spent(self._delta, "sample", self._relation)[0],
            "delta": delta,
            "sigma": 0.0 if self._spec is None else self._spec.sigma,
        }
