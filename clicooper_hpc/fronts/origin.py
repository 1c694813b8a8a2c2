"""Where a front comes from, and what making it cost: why a release may rely on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from clicooper_hpc.privacy.both_relations import state_summed_release
from clicooper_hpc.privacy.front_run import FrontRun
from clicooper_hpc.privacy.privacy_card import FrontSummary
from clicooper_hpc.privacy.release_spec import ReleaseSpec

__all__ = ["ClassSumsCost", "FrontOrigin", "FrontOriginKind"]

FrontOriginKind = Literal["public-weights", "run", "random", "fixed-basis", "dp-sgd", "identity"]


@dataclass(frozen=True, slots=True)
class ClassSumsCost:
    """Training samples that paid for the projection with their class sums, and are never released.

    ``spec`` is the mechanism of the sums; None where privacy is off and the sums are exact.
    """

    samples: int
    spec: ReleaseSpec | None


@dataclass(frozen=True, slots=True)
class FrontOrigin:
    """Why the front is, or is not, independent of the private data.

    Parameters
    ----------
    kind, text
        Where the front itself comes from, as a word and as a line.
    normalisation
        ``"frozen statistics"`` where BatchNorm runs on stored statistics, else ``"none"``.
    projection
        What a fitted projection was fitted on, if there is one.
    conditional, reason
        Whether the guarantee holds only given the front, and why.
    epsilon, delta
        Price of DP-SGD under add-remove, on top of the release's; None for every other kind.
    class_sums
        The samples a private projection was paid with, if there is one.
    run
        The run that delivered its network; None for every other kind.
    """

    kind: FrontOriginKind
    text: str
    normalisation: str = "none"
    projection: str | None = None
    conditional: bool = False
    reason: str | None = None
    epsilon: float | None = None
    delta: float | None = None
    class_sums: ClassSumsCost | None = None
    run: FrontRun | None = None

    @property
    def is_private(self) -> bool:
        """Whether the front was computed from private samples, so that only its owner has it."""
        return self.kind == "dp-sgd" or self.class_sums is not None

    def summarise_origin(self) -> FrontSummary:
        """Return what the privacy card says of the front."""
        return replace(self._summary(), run=self.run)

    def _summary(self) -> FrontSummary:
        source = self.text if self.projection is None else f"{self.text}, {self.projection}"
        normalisation = f"{self.normalisation}; rows do not depend on batch-mates"
        # First: class sums are paid for, so their front is private and still no condition.
        if self.class_sums is not None and not self.conditional:
            spent, spec = self.class_sums.samples, self.class_sums.spec
            if spec is None:
                return FrontSummary("class-sums", source, normalisation, spent=spent)
            promise = spec.guarantee
            other = "add-remove" if promise.relation == "replace-one" else "replace-one"
            stated = state_summed_release(spec, sums_alone=True)
            return FrontSummary(
                "class-sums",
                source,
                normalisation,
                promise.epsilon,
                promise.delta,
                spent=spent,
                relation=promise.relation,
                other_epsilon=next(one.epsilon for one in stated if one.relation == other),
            )
        if self.conditional:
            return FrontSummary("conditional", f"{source} ({self.reason})", normalisation)
        if self.kind == "dp-sgd":
            return FrontSummary("dp-sgd", source, normalisation, self.epsilon, self.delta)
        return FrontSummary("random" if self.kind == "random" else "public", source, normalisation)

    def origin_to_dict(self) -> dict[str, Any]:
        """Return plain values for the stored front."""
        plain = asdict(replace(self, class_sums=None))
        del plain["class_sums"]
        if self.run is None:
            del plain["run"]
        cost = self.class_sums
        if cost is None:
            return {**plain, "spent": None}
        spec = None if cost.spec is None else cost.spec.to_dict()
        # The key is the name of the samples' split in the privacy ledger.
        return {**plain, "spent": {"samples": cost.samples, "spec": spec}}

    @classmethod
    def origin_from_dict(cls, stored: Mapping[str, Any]) -> FrontOrigin:
        """Read `origin_to_dict`."""
        plain = dict(stored)
        cost = plain.pop("spent", None)
        if cost is not None:
            spec = None if cost["spec"] is None else ReleaseSpec.from_dict(cost["spec"])
            plain["class_sums"] = ClassSumsCost(int(cost["samples"]), spec)
        if plain.get("run") is not None:
            plain["run"] = FrontRun(**plain["run"])
        return cls(**plain)
