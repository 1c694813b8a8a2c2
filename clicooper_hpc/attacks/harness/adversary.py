"""Who attacks a run, what each holds and may know besides, and the truth it is scored with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from clicooper_hpc.attacks.harness.summed_release import RELEASE_HOLDERS, HeldRelease
from clicooper_hpc.errors import UsageError
from clicooper_hpc.privacy.gradient_sums import SplitPromise
from clicooper_hpc.privacy.release_spec import ReleaseSpec

__all__ = [
    "NO_SAMPLE_LEFT",
    "OUTSIDER",
    "VERIFIER",
    "Adversary",
    "AdversaryView",
    "AuxiliaryData",
    "GroundTruth",
    "LabelledImages",
    "PublicFront",
    "PublicMechanism",
    "adversaries_of",
    "adversary_holds_rows",
    "adversary_named",
]

# Names are stored in attacks.h5 and typed on the command line: changing one breaks both.
OUTSIDER: Final = "outsider"
VERIFIER: Final = "verifier"

#: Why attacks on rows of samples do not suit a run whose rows are recoloured public ones.
NO_SAMPLE_LEFT: Final = "nothing of a sample left the owner, only noised sums over all of them"

#: Clean rows float32 [n, ...] of images float32 [n, channels, height, width] in [0, 1].
PublicFront = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Adversary:
    """Who attacks: one trainer, trainers side by side, or somebody with the delivered network.

    Parameters
    ----------
    name
        ``"trainer 1"``, ``"trainers 1+2"``, ``"outsider"``, ``"verifier"``; where sums over all
        samples were released, one of `RELEASE_HOLDERS`.
    segments
        Numbers (from 1) of the segments whose weights it holds.
    """

    name: str
    segments: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PublicMechanism:
    """The release mechanism, which every party knows from the signed privacy card.

    Parameters
    ----------
    unit, relation, clip, sigma
        As in the job; ``sigma`` is the standard deviation of the noise of each number, in units of
        the released numbers, 0 with privacy off.
    radius
        L2 bound of a clean released row, infinite with privacy off.
    mu
        Of Gaussian differential privacy for one whole sample under ``relation``; infinite with
        privacy off.
    non_negative
        Whether clean rows have no negative number.
    spec
        The solved mechanism with its claim; None with privacy off.
    """

    unit: str
    relation: str
    clip: float
    sigma: float
    radius: float
    mu: float
    non_negative: bool
    spec: ReleaseSpec | None = None


@dataclass(frozen=True, slots=True)
class AdversaryView:
    """What a party was given in a run.

    Parameters
    ----------
    adversary
        Who holds it.
    rows
        float32 [m, ...]: what entered its first segment, one row for each of its inputs. Released
        rows for trainer 1; for others, what the segments before make of these with their delivered
        weights. Empty for an outsider.
    sub_labels
        int32 [m]: sub-label of each input.
    groups
        int64 [m, k]: the samples of each input; k = 1 unless trainers train on means of k rows, and
        0 where the inputs are made of public images.
    sub_label_count
        Number of sub-labels, gamma K.
    segments
        The delivered segments the party holds, by number from 1, in evaluation mode. Do not train
        them in place: copy first.
    mechanism
        Of the release.
    front
        The owner's front without clipping and noise if it is public, else None.
    clip
        Takes clean rows float32 [n, ...] to what noise is added to.
    front_module
        ``front`` with gradients, for attacks that follow them. Copy before use.
    release
        What left the owner: ``release.mode`` of the job. Other than with ``"rows"`` rows are
        recoloured public ones, which carry no noise of their own, and ``mechanism.sigma`` is 0.
    held
        For `RELEASE_HOLDERS`; None for everybody else.
    samples
        How many samples the sums are of, as the privacy card says; 0 where rows were released.
    mixes, sharpness
        How public rows were named, as the job says: `clicooper_hpc.owner.make_moments.Naming`.
    promise
        Of moments and rounds of gradients together, with ``"gradients"``: then ``mechanism.spec``
        is that of the moments, and ``mechanism.mu`` that of everything. None with privacy off.
    """

    adversary: Adversary
    rows: NDArray[np.float32]
    sub_labels: NDArray[np.int32]
    groups: NDArray[np.int64]
    sub_label_count: int
    segments: Mapping[int, nn.Module]
    mechanism: PublicMechanism
    front: PublicFront | None
    clip: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    front_module: nn.Module | None = None
    release: str = "rows"
    held: HeldRelease | None = None
    samples: int = 0
    mixes: int = 0
    sharpness: float = 1.0
    promise: SplitPromise | None = None

    @property
    def summed(self) -> bool:
        """Whether sums over all samples were released, and rows of none."""
        return self.release in RELEASE_HOLDERS


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """Images float32 [n, channels, height, width] in [0, 1] and their classes int64 [n]."""

    images: NDArray[np.float32]
    classes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.classes)


@dataclass(frozen=True, slots=True)
class AuxiliaryData:
    """What an attacker may have of its own.

    Parameters
    ----------
    same
        Images of the distribution the owner draws from, none of them the owner's. Attacks state how
        many labels of it they use.
    public
        Another, public data set of the same shape, if the job names one; its classes mean nothing
        here.
    """

    same: LabelledImages
    public: LabelledImages | None


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """What only the owner knows; for scoring.

    Parameters
    ----------
    train
        The owner's training samples, by the ids of `AdversaryView.groups`.
    test
        Held-out samples, neither trained on nor part of `AuxiliaryData.same`.
    classes
        Number K of classes.
    class_of_sub_label
        int64 [gamma K].
    predict
        Sub-label probabilities float64 [n, gamma K] of the delivered network for images float32
        [n, channels, height, width].
    pooled
        Whether the owner pools the probabilities of a class's names, or adds them up.
    """

    train: LabelledImages
    test: LabelledImages
    classes: int
    class_of_sub_label: NDArray[np.int64]
    predict: Callable[[NDArray[np.float32]], NDArray[np.float64]]
    pooled: bool = False


def adversaries_of(segments: int, release: str = "rows") -> tuple[Adversary, ...]:
    """Return who can attack a run of ``segments`` trainers with ``release.mode = release``.

    Each trainer alone; neighbours side by side; an outsider with the delivered network; a verifier
    with what is public in the run folder, which is neither rows nor weights. Where sums over
    all samples were released, whoever held them: more than any party is given, so an upper bound
    for all.
    """
    numbers = range(1, segments + 1)
    return (
        *(Adversary(f"trainer {one}", (one,)) for one in numbers),
        # Neighbours only: whoever holds segments with a gap between them can pass no row through
        # both.
        *(Adversary(f"trainers {one}+{one + 1}", (one, one + 1)) for one in numbers[:-1]),
        Adversary(OUTSIDER, tuple(numbers)),
        Adversary(VERIFIER, ()),
        *([Adversary(RELEASE_HOLDERS[release], ())] if release in RELEASE_HOLDERS else []),
    )


def adversary_named(parties: Sequence[Adversary], name: str) -> Adversary:
    """Return the one called ``name``; `UsageError` with the names there are."""
    for party in parties:
        if party.name == name:
            return party
    raise UsageError(
        f"there is no party {name!r}",
        where="--party",
        remedy=f"Parties of this run: {', '.join(one.name for one in parties)}.",
    )


def adversary_holds_rows(party: Adversary) -> bool:
    """Tell whether anything that left the owner enters a segment of the party."""
    # Not "holds segments": an outsider has all of them, delivered, and no row.
    return party.name not in (OUTSIDER, VERIFIER, *RELEASE_HOLDERS.values())
