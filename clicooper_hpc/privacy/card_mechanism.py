"""The claim of a run and its mechanism, line by line for the privacy card."""

from __future__ import annotations

from clicooper_hpc.privacy.release_spec import ReleaseSpec

__all__ = ["mechanism_lines"]


def mechanism_lines(spec: ReleaseSpec, brand: str | None) -> list[tuple[str, str]]:
    """Return name and text of claim, clip, sensitivity and mechanism.

    ``brand``: what makes the claim void, said behind it; None where nothing does.
    """
    g = spec.guarantee
    norm = "c, each coordinate" if g.unit == "element" else "C, L2 norm of a row"
    sign = ", no negative coordinates" if g.non_negative else ""
    claim = _claim(spec)
    return [
        ("guarantee", claim if brand is None else f"{claim} [{brand}]"),
        ("clip", f"{g.clip:.6g} ({norm}{sign}), d = {g.dimension}"),
        ("sensitivity", f"{spec.sensitivity:.6g} = {spec.sensitivity_reason}"),
        (
            "mechanism",
            f"rounded Gaussian, sigma {spec.sigma:.6g}, grid {spec.grid:.6g}, "
            f"mu {spec.mu:.6g}, exact sampler",
        ),
    ]


def _claim(spec: ReleaseSpec) -> str:
    g = spec.guarantee
    claim = f"epsilon {g.epsilon:.6g}, delta {g.delta:.6g}"
    rest = f"unit {g.unit}, {g.relation}"
    # In the same line: an epsilon for one number out of thousands reads like one for a sample.
    whole = f"per SAMPLE epsilon {spec.sample_epsilon:.6g} at the same delta"
    if g.unit == "sample":
        return f"{claim} per sample ({rest})"
    if g.unit == "element":
        return f"{claim} per ELEMENT only; {whole} ({rest})"
    near = f"metric-DP(D0 = {g.metric_distance or 0.0:.6g})"
    return f"{near}: {claim} between rows closer than D0 only; {whole} ({rest})"
