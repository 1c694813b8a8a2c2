"""Grouping of sub-labels into classes from plain arrays: every way we know, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.labels.balanced_groups import balanced_groups
from clicooper_hpc.attacks.labels.cell_alignment import (
    align_cells,
    cell_residuals,
    find_cells,
    match_cell_scores,
)
from clicooper_hpc.attacks.labels.grouping import (
    equal_groups,
    kmeans_groups,
    spectral_groups,
    ward_groups,
)
from clicooper_hpc.attacks.labels.row_representations import row_representations
from clicooper_hpc.attacks.labels.sub_label_moments import (
    SubLabelMoments,
    strongest_directions,
    sub_label_moments,
    unit_rows,
)
from clicooper_hpc.attacks.labels.transfer_networks import (
    SubLabelRows,
    refine_by_transfer,
    transfer_between_cells,
    transfer_confusion,
)

__all__ = ["MergeEvidence", "merge_variants"]

# Networks are trained on these, and on what the last held segment makes of the rows.
_LEARNT = ("rows", "pool 2")
# With more names than this, cells (which a map of so many names hardly has) are looked for in the
# rows alone, not in every representation of them: it is most of the work.
_MANY_NAMES = 1000

Groups = dict[str, NDArray[np.int64]]
Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class MergeEvidence:
    """What an adversary has to group sub-labels by.

    Parameters
    ----------
    rows
        float32 [n, d] or [n, channels, height, width], what the adversary holds; n may be 0.
    sub_labels
        int32 [n] in [0, gamma K).
    gamma, K
        Sub-labels per class and number of classes; both are in the job.
    sigma
        Known standard deviation of the noise of each number.
    head
        float32 [gamma K, d]: weights of the last layer, bias as an extra column if wanted.
    confused
        float64 [gamma K, gamma K]: mean probability of sub-label b on inputs of a.
    features
        More representations of the same rows, float32 [n, ...] each: features behind a segment.
    """

    rows: NDArray[np.float32]
    sub_labels: NDArray[np.int32]
    gamma: int
    K: int
    sigma: float
    head: NDArray[np.float32] | None = None
    confused: NDArray[np.float64] | None = None
    features: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


def merge_variants(evidence: MergeEvidence, *, seed: int = 0, scale: float = 1.0) -> Groups:
    """Return the class int64 [gamma K] guessed for each sub-label, by name of the attack.

    Guessed classes are numbers without meaning: only who is together counts. Sub-labels without
    rows, where there are rows, are put into class 0. ``scale`` is of starts, steps and rounds; 1 is
    full strength.
    """
    gamma, K, rows = evidence.gamma, evidence.K, evidence.rows
    head, confused = evidence.head, evidence.confused
    seen = np.arange(gamma * K)
    labels = evidence.sub_labels.astype(np.int64)
    if len(rows):
        # Numbered without gaps: a sub-label without rows has no mean to be grouped by.
        seen, labels = np.unique(labels, return_inverse=True)
    way = _MergeVariants(gamma, K, seed, scale)
    found: Groups = {}
    cells: NDArray[np.int64] | None = None
    if len(rows):
        cells = way.from_rows(found, evidence, labels, len(seen))
    if head is not None:
        way.from_head(found, head[seen].astype(np.float64), cells)
    if confused is not None:
        way.from_confusion(found, "segment's confusion", confused[np.ix_(seen, seen)])
    full: Groups = {}
    for name, group in found.items():
        full[name] = np.zeros(gamma * K, dtype=np.int64)
        full[name][seen] = group
    return full


@dataclass(frozen=True, slots=True)
class _MergeVariants:
    """What the attacker knows and how hard it tries; each method adds groupings to ``found``."""

    gamma: int
    K: int
    seed: int
    scale: float

    @property
    def starts(self) -> int:
        # Two starts at least: one may be stuck.
        return max(2, round(10 * self.scale))

    def from_rows(
        self, found: Groups, evidence: MergeEvidence, labels: NDArray[np.int64], count: int
    ) -> NDArray[np.int64] | None:
        """Return the cells found among the rows' means, if there can be any."""
        # Square roots of counts have about the same noise, whatever the count.
        sizes = np.sqrt(np.bincount(labels, minlength=count))[:, None].astype(np.float64)
        found["frequencies"] = self._equal(sizes)
        spaces = row_representations(evidence.rows, self.seed)
        learnt = [name for name in _LEARNT if name in spaces]
        for name, values in evidence.features.items():
            made = row_representations(values, self.seed)
            spaces |= {f"{name}: {kind}": space for kind, space in made.items()}
            learnt = [kind for kind in learnt if kind in _LEARNT] + [f"{name}: rows"]
        cells: NDArray[np.int64] | None = None
        for name, space in spaces.items():
            measured = sub_label_moments(space, labels, count)
            if cells is None and self.gamma > 1:
                cells = find_cells(
                    measured.means, self.gamma, self.K, self.seed, starts=self.starts
                )
            # Pooled maps and features carry noise of another, unknown size.
            used = cells if name == "rows" or count <= _MANY_NAMES else None
            self._from_moments(
                found, name, measured, used, evidence.sigma if name == "rows" else 0.0
            )
            if name in learnt:
                white = np.asarray(space @ measured.whitener(), dtype=np.float32)
                self._from_networks(found, name, white, labels, used)
        return cells

    def from_head(self, found: Groups, head: Points, cells: NDArray[np.int64] | None) -> None:
        """Group the rows of the last layer; cells as the rows' means have them, and its own."""
        self._plain(found, "head", head)
        self._plain(found, "head unit", unit_rows(head))
        if self.gamma > 1:
            own = find_cells(head, self.gamma, self.K, self.seed, starts=self.starts)
            ones = np.ones(len(head), dtype=np.int64)
            self._stripped(found, "head", head, own, ones)
            if cells is not None:
                self._stripped(found, "head, cells of rows", head, cells, ones)

    def from_confusion(self, found: Groups, name: str, confused: Points) -> None:
        """Group by who is taken for whom, the diagonal left out."""
        both = (confused + confused.T) / 2
        # Each sub-label is taken for itself most of all, which says nothing about others.
        np.fill_diagonal(both, 0)
        logs = np.log(both + 1e-6)
        np.fill_diagonal(logs, logs.max())
        scaled = both / np.sqrt(np.outer(both.sum(axis=0), both.sum(axis=1)) + 1e-12)
        found[f"{name} spectral"] = spectral_groups(scaled, self.K, self.seed)
        found[f"{name} equal"] = self._equal(logs)
        if self.gamma > 1:
            cells = find_cells(logs, self.gamma, self.K, self.seed, starts=self.starts)
            found[f"{name} matched"] = match_cell_scores(logs, cells, self.seed, starts=self.starts)

    def _from_moments(
        self,
        found: Groups,
        name: str,
        measured: SubLabelMoments,
        cells: NDArray[np.int64] | None,
        sigma: float,
    ) -> None:
        white = measured.means @ measured.whitener()
        kinds = {"": measured.means, " whitened": white}
        if sigma > 0:
            kinds[" denoised"] = measured.denoised(sigma)
        for kind, points in kinds.items():
            self._plain(found, f"{name}{kind}", points)
            if cells is not None:
                self._stripped(found, f"{name}{kind}", points, cells, measured.counts)
        # K classes span K - 1 directions; the rest is noise.
        factors = strongest_directions(white, measured.counts, self.K - 1)
        self._plain(found, f"{name} factors", factors)
        if self.gamma > 1:
            found[f"{name} balanced"] = balanced_groups(
                factors, measured.counts, self.K, self.seed, scale=self.scale
            )

    def _from_networks(
        self,
        found: Groups,
        name: str,
        white: NDArray[np.float32],
        labels: NDArray[np.int64],
        cells: NDArray[np.int64] | None,
    ) -> None:
        seed, scale, K = self.seed, self.scale, self.K
        count, seen = int(labels.max()) + 1, SubLabelRows(white, labels)
        self.from_confusion(
            found, f"{name} confusion", transfer_confusion(seen, count, seed, scale=scale)
        )
        begin = found[f"{name} factors equal"]
        found[f"{name} refined"] = refine_by_transfer(seen, begin, K, seed, scale=scale)
        if cells is not None:
            scores = transfer_between_cells(seen, cells, seed, scale=scale)
            first = match_cell_scores(scores, cells, seed, starts=self.starts)
            found[f"{name} transfer matched"] = first
            found[f"{name} transfer refined"] = refine_by_transfer(
                seen, first, K, seed, cell_of=cells, scale=scale
            )

    def _equal(self, points: Points) -> NDArray[np.int64]:
        return equal_groups(points, self.K, self.gamma, self.seed, starts=self.starts)

    def _plain(self, found: Groups, name: str, points: Points) -> None:
        found[f"{name} k-means"] = kmeans_groups(points, self.K, self.seed, starts=self.starts)
        found[f"{name} Ward"] = ward_groups(points, self.K)
        found[f"{name} equal"] = self._equal(points)

    def _stripped(
        self,
        found: Groups,
        name: str,
        points: Points,
        cells: NDArray[np.int64],
        counts: NDArray[np.int64],
    ) -> None:
        # Cells may differ in more than their means: both readings are tried.
        for drop in (False, True):
            tag = f"{name} stripped{' of span' if drop else ''}"
            left = cell_residuals(points, cells, drop_span=drop)
            few = strongest_directions(left, counts, self.K - 1)
            found[f"{tag} equal"] = self._equal(left)
            for kind, made in (("", left), (" factors", few), (" cosine", unit_rows(few))):
                found[f"{tag}{kind} matched"] = align_cells(
                    made, cells, self.seed, starts=self.starts
                )
