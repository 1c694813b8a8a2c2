"""The privacy card: the guarantee of a run, its mechanism and its measured figures, as text.

Figures that were not measured are absent, never guessed. Where the unit is smaller than a sample,
the epsilon of a whole sample stands in the same line as the epsilon of the unit.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from clicooper_hpc.digests import Digest, digest_bytes
from clicooper_hpc.privacy.accounting import Charge, CrossCheck, compose_charges
from clicooper_hpc.privacy.both_relations import (
    RelationStatement,
    state_row_release,
    state_summed_release,
    stated_to_dict,
)
from clicooper_hpc.privacy.card_bounds import bound_lines
from clicooper_hpc.privacy.card_mechanism import mechanism_lines
from clicooper_hpc.privacy.front_run import FrontRun
from clicooper_hpc.privacy.gaussian_mechanism import gaussian_mu
from clicooper_hpc.privacy.label_map import LabelMethod
from clicooper_hpc.privacy.master_key import INSECURE, RngMode
from clicooper_hpc.privacy.moments_summary import MomentsSummary
from clicooper_hpc.privacy.release_spec import ReleaseSpec
from clicooper_hpc.privacy.sensitivity import Relation

__all__ = [
    "FrontSummary",
    "LabelSummary",
    "MeasuredFigures",
    "PrivacyCard",
]


@dataclass(frozen=True, slots=True)
class FrontSummary:
    """What the card says of the front: where it comes from and what that cost.

    Parameters
    ----------
    kind
        ``"conditional"`` is any front that saw private data without DP.
    source
        File, model name or seed.
    normalisation
        How a row is kept independent of its batch-mates.
    epsilon, delta
        Of the training, under add-remove, for ``"dp-sgd"``; of the sums, under ``relation``, for
        ``"class-sums"``, None where these are exact.
    relation, other_epsilon
        For ``"class-sums"``: that of the release, and epsilon of the sums under the other one:
        add-remove for replace-one, replace-one for zero-out.
    spent
        Number of training samples that paid for ``"class-sums"`` and are never released.
    run
        The run that made the network of the front, if one did.
    """

    kind: Literal["public", "random", "dp-sgd", "class-sums", "conditional"]
    source: str
    normalisation: str
    epsilon: float | None = None
    delta: float | None = None
    spent: int = 0
    relation: Relation = "replace-one"
    other_epsilon: float | None = None
    run: FrontRun | None = None

    def __post_init__(self) -> None:
        priced = self.epsilon is not None and self.delta is not None
        if self.kind != "class-sums" and (self.kind == "dp-sgd") != priced:
            raise ValueError(
                "epsilon and delta belong to a front trained with DP-SGD, or on class sums"
            )
        if (self.kind == "class-sums") != (self.spent > 0):
            raise ValueError("class sums are paid with samples, and no other front is")

    def charge(self) -> Charge:
        """Cost of the front's training to a sample that is released."""
        if self.kind != "dp-sgd" or self.epsilon is None or self.delta is None:
            return Charge()
        return Charge.approximate(self.epsilon, self.delta, "zero-out")

    def _unprotected(self) -> bool:
        return self.run is None or self.run.promise is None

    def line(self) -> str:
        """Return the card's words on the front."""
        return {
            "public": f"public, {self.source}: independent of the private samples",
            "random": f"random, {self.source}: independent of the private samples",
            "dp-sgd": f"trained with DP-SGD on the private samples, {self.source}: "
            f"epsilon {_n(self.epsilon)}, delta {_n(self.delta)} per sample (add-remove)",
            "class-sums": f"{self.source} of {self.spent} training samples, never released: "
            + (
                "without noise, no guarantee"
                if self.epsilon is None
                else f"epsilon {_n(self.epsilon)}, delta {_n(self.delta)} "
                f"for each ({self._both()}), once"
            ),
            "conditional": f"CONDITIONAL: {self.source} saw private samples "
            f"{'without DP' if self._unprotected() else 'under the promise of that run alone'}; "
            "every figure here holds only given the front",
        }[self.kind]

    def _both(self) -> str:
        """Return the relation of the sums' epsilon, and their epsilon under the other one."""
        if self.other_epsilon is None:
            return self.relation
        # Zero rows in sums are samples that are not there.
        mine = "add-remove" if self.relation == "zero-out" else self.relation
        other = "replace-one" if self.relation == "zero-out" else "add-remove"
        return f"{mine}; {other} epsilon {_n(self.other_epsilon)}"


@dataclass(frozen=True, slots=True)
class LabelSummary:
    """How labels are protected."""

    classes: int
    method: LabelMethod
    expansion: int
    response_epsilon: float | None = None

    def line(self) -> str:
        """Return the card's words on the labels."""
        text = "names sent as they are"
        if self.method != "none":
            text = f"secret label map {self.method!r}, {self.expansion} names a class"
        if self.response_epsilon is None:
            return f"{text}; no differential privacy of labels"
        other = "against any other label"
        return f"{text}; randomised response, label epsilon {_n(self.response_epsilon)} {other}"


@dataclass(frozen=True, slots=True)
class MeasuredFigures:
    """What the owner itself measures by the end of a run; each None until then.

    Accuracies in [0, 1]. What attacks reach is not here: the card is signed before any attack.
    """

    accuracy_clean: float | None = None
    accuracy_released: float | None = None


@dataclass(frozen=True, slots=True)
class PrivacyCard:
    """What a run promises.

    Parameters
    ----------
    spec
        The release mechanism; None if privacy is off.
    check
        Another accountant's epsilon of the unit; None if privacy is off.
    front, labels
        Provenance of the front, protection of the labels.
    rng_mode
        Of the master key.
    measured
        What is known of the finished run.
    moments
        What is released instead of rows, if it is.
    """

    spec: ReleaseSpec | None
    check: CrossCheck | None
    front: FrontSummary
    labels: LabelSummary
    rng_mode: RngMode
    measured: MeasuredFigures = field(default_factory=MeasuredFigures)
    moments: MomentsSummary | None = None

    def __post_init__(self) -> None:
        if (self.spec is None) != (self.check is None):
            # A card without a second opinion on its epsilon would look like one that was checked.
            raise ValueError("a mechanism and its cross-check belong together")

    def lines(self) -> list[str]:
        """Return the card as lines of text."""
        rows = self._off() if self.spec is None else self._on(self.spec)
        rows += [
            ("front", self.front.line()),
            *([] if self.front.run is None else self.front.run.rows()),
            ("normalisation", self.front.normalisation),
            ("random numbers", self._rng_line()),
            ("labels", self._label_line()),
            *self._measured(),
        ]
        return [f"{name:<16} {text}" for name, text in rows]

    def text(self) -> str:
        """Return the card as one text."""
        return "\n".join(self.lines()) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values without floats: what is stored, and signed."""
        stored: dict[str, Any] = {
            # Texts instead of floats: what is signed must read back to the bit everywhere.
            "format": "clicooper privacy card 1",
            "private": self.spec is not None,
            "spec": self.spec and self.spec.to_dict(),
            "relations": self.spec and stated_to_dict(self.stated()),
            "check": self.check and _texts(asdict(self.check)),
            "front": _texts(asdict(self.front)),
            "labels": _texts(asdict(self.labels)),
            "rng_mode": self.rng_mode,
            "measured": _texts(asdict(self.measured)),
            "moments": self.moments and _texts(asdict(self.moments)),
            "lines": self.lines(),
        }
        return {key: value for key, value in stored.items() if value is not None}

    def digest(self) -> Digest:
        """Digest of `to_dict`, for the signed ledger."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return digest_bytes("clicooper/v1/privacy-card", text.encode("ascii"))

    def stated(self) -> tuple[RelationStatement, ...]:
        """Return the release under every relation that has a meaning for it; empty without one."""
        if self.spec is None:
            return ()
        if self.moments is not None:
            return state_summed_release(
                self.spec,
                sums_alone=self.moments.sums_alone,
                gradient_share=self.moments.gradient_share,
            )
        return state_row_release(self.spec)

    def sample_total(self) -> tuple[float, float]:
        """Return (epsilon, delta) of the training sample that pays most.

        A released one pays for release, front and labels together; one that was spent on the front
        is not released.
        """
        if self.spec is None:
            return math.inf, 1.0
        return self._total(self.spec.guarantee.relation, self.spec.sample_charge())

    def other_total(self) -> tuple[str, float, float]:
        """Return the other relation of whole samples, and the same total under it.

        Zero-out or add-remove if the claim is for replace-one.
        """
        if self.spec is None:
            return "replace-one", math.inf, 1.0
        given = self.spec.guarantee.relation
        other = next(
            one
            for one in self.stated()
            if one.unit == "sample" and one.relation != given and one.sensitivity is not None
        )
        mu = gaussian_mu(self.spec.sigma, other.sensitivity or 0.0)
        relation: Relation = "zero-out" if given == "replace-one" else "replace-one"
        return (other.relation, *self._total(relation, Charge.gaussian(mu, relation)))

    def _total(self, relation: Relation, release: Charge) -> tuple[float, float]:
        if self.spec is None:
            return math.inf, 1.0
        parts = [release, self.front.charge().under(relation)]
        if self.labels.response_epsilon is not None:
            parts.append(Charge.pure(self.labels.response_epsilon))
        # A front trained with DP-SGD brings a delta of its own, which the total must cover.
        delta = min(1.0, self.spec.guarantee.delta + parts[1].delta)
        released = compose_charges(parts, delta, relation)
        spent = self.front.epsilon if relation == self.front.relation else self.front.other_epsilon
        if self.front.kind != "class-sums" or spent is None:
            return released
        # Nobody pays both, so the dearer of the two is the total, not their sum.
        return max(released[0], spent), max(released[1], self.front.delta or 0.0)

    def _off(self) -> list[tuple[str, str]]:
        return [
            (
                "NO PRIVACY",
                "rows leave the owner as the front made them"
                if self.moments is None
                else f"{self.moments.what()} leave the owner without noise",
            ),
            ("guarantee", "none: epsilon is infinite for every sample"),
        ]

    def _on(self, spec: ReleaseSpec) -> list[tuple[str, str]]:
        g, total = spec.guarantee, self.sample_total()
        check = self.check
        rows = mechanism_lines(spec, INSECURE if self.rng_mode == INSECURE else None)
        rows.append(("releases", self._releases()))
        # The claim stands in the first line already.
        rows[1:1] = [
            (one.relation, one.words())
            for one in self.stated()
            if (one.relation, one.unit) != (g.relation, g.unit_label)
        ]
        if self.moments is not None and self.moments.rounds:
            text = f"rounded Gaussian, {self.moments.noise(spec)}, together mu {_n(spec.mu)}"
            rows = [
                (name, f"{text}, exact sampler" if name == "mechanism" else words)
                for name, words in rows
            ]
        if check is not None:
            text = f"epsilon at most {_n(check.rdp)} by Renyi differential privacy"
            rows.append(("cross-check", text))
        if self.front.kind == "dp-sgd" or self.labels.response_epsilon is not None:
            text = f"epsilon {_n(total[0])}, delta {_n(total[1])} per sample, {g.relation}"
            other = "{}: epsilon {:.6g}, delta {:.6g}".format(*self.other_total())
            what = "release, front training, label response"
            rows.append(("all together", f"{text} ({what}); {other}"))
        summed = self.moments is not None
        return rows + bound_lines(spec, self.labels.classes, self.stated(), summed=summed)

    def _releases(self) -> str:
        if self.moments is None:
            return "1 per sample, the same bits every time; no augmented views"
        return (
            f"{1 + self.moments.rounds} in all: {self.moments.what()}; no row of a sample; "
            f"{self.moments.rows} public rows recoloured to them"
        )

    def _label_line(self) -> str:
        if self.moments is None:
            return self.labels.line()
        how = self.labels.method
        return f"names of public rows made of them, secret label map {how!r}"

    def _rng_line(self) -> str:
        if self.rng_mode == INSECURE:
            return f"{INSECURE}: all secrets follow from a seed. NO PROTECTION, for tests only"
        return "secure: ChaCha20 under a key of the operating system"

    def _measured(self) -> list[tuple[str, str]]:
        found = [
            (self.measured.accuracy_clean, "on clean rows, never released"),
            (self.measured.accuracy_released, "on released (noised) rows"),
        ]
        return [("evaluated", f"{_p(value)} {text}") for value, text in found if value is not None]


def _n(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"


def _p(value: float) -> str:
    return f"{100 * value:.3g} %"


def _texts(values: dict[str, Any]) -> dict[str, Any]:
    """Drop what is not known and write floats as texts that read back to the bit."""
    return {
        key: _texts(value)
        if isinstance(value, dict)
        else (repr(value) if isinstance(value, float) else value)
        for key, value in values.items()
        if value is not None
    }
