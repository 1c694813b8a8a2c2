"""A run as a notebook shows it: a small table, and the privacy card behind a click."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from clicooper_hpc.printable import printable_lines, printable_text
from clicooper_hpc.runstore.result_figures import RESULT_FIGURES

__all__ = ["run_html"]


def run_html(
    title: str, attrs: Mapping[str, Any], results: Mapping[str, Any], privacy: Mapping[str, Any]
) -> str:
    """Return HTML for the inside of a page; texts of the run are escaped.

    Parameters
    ----------
    title
        Folder and state of the run.
    attrs, results, privacy
        As `clicooper_hpc.runstore.reader.Run` has them.
    """
    rows = [
        (name, _figure(name, value), RESULT_FIGURES.get(name, ("", ""))[1])
        for name, value in results.items()
    ]
    rows.append(("privacy", _promise(privacy), ""))
    rows.append(("created", str(attrs.get("created", "")), ""))
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    # What was promised stands until there is what was measured too.
    text = str(privacy.get("text", privacy.get("promised", "")))
    card = html.escape(printable_lines(text))
    card = f"<details><summary>privacy card</summary><pre>{card}</pre></details>" if card else ""
    return f"<div><strong>{_safe(title)}</strong><table>{body}</table>{card}</div>"


def _figure(name: str, value: object) -> str:
    if isinstance(value, float):
        return f"{100 * value:.2f} %" if name.endswith("_accuracy") else f"{value:.4g}"
    return str(value)


def _promise(privacy: Mapping[str, Any]) -> str:
    if privacy.get("private") is False:
        return "none: what left carried no noise"
    epsilon, delta, unit, relation = (
        privacy.get(f"spec.guarantee.{key}") for key in ("epsilon", "delta", "unit", "relation")
    )
    if epsilon is None:
        return "not stored"
    return f"epsilon {epsilon}, delta {delta} per {unit} ({relation})"


def _cell(text: str) -> str:
    return f'<td style="text-align:left">{_safe(text)}</td>'


def _safe(text: str) -> str:
    return html.escape(printable_text(text))
