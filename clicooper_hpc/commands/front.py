"""`clicooper front import`: its options and the call."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clicooper_hpc.commands.command import Command, add_json_option, print_facts, print_report
from clicooper_hpc.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from clicooper_hpc.fronts.preprocessing_check import PreprocessingScore

__all__ = ["FRONT_IMPORT"]


def _add_front_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="efficientnet-lite0")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="where the front goes (default: data/NAME.safetensors)",
    )
    parser.add_argument(
        "--check",
        metavar="DATA.h5",
        help="compare preprocessings on public labelled images; an existing FILE is checked",
    )
    parser.add_argument(
        "--side", type=int, default=128, metavar="PIXELS", help="image size of the check"
    )
    parser.add_argument(
        "--rows", type=int, default=2000, metavar="N", help="images of the check, of each split"
    )
    add_json_option(parser)


def _import_front(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.config.owner_sections import MOST_PIXELS
    from clicooper_hpc.fronts.import_weights import import_weights
    from clicooper_hpc.fronts.published_weights import PUBLISHED

    if not 1 <= arguments.side <= MOST_PIXELS:
        raise UsageError(f"must be between 1 and {MOST_PIXELS}", where="--side")
    if arguments.rows < 1:
        raise UsageError("must be at least 1", where="--rows")
    path = arguments.output or Path("data") / f"{arguments.name}.safetensors"
    lines: list[str] = []
    facts: dict[str, object] = {"front": path}
    if arguments.check is None or not path.exists() or arguments.name not in PUBLISHED:
        made = import_weights(arguments.name, path)
        size = path.stat().st_size / 2**20
        lines.append(
            f"wrote {path}: {made.title}, {made.license}, trained on {made.trained_on}, "
            f"{size:.1f} MiB"
        )
        lines.append(f"made of {made.source}")
        facts["made_of"] = {
            "title": made.title,
            "license": made.license,
            "trained_on": made.trained_on,
            "source": made.source,
        }
    code = ExitCode.DONE
    if arguments.check is not None:
        scores = _score_front(arguments, path)
        found, code = _check_front(arguments, scores)
        lines += found
        facts["scores"] = [
            {
                "preprocessing": one.preprocessing.name,
                "accuracy": one.accuracy,
                "behind": one.behind,
                "standard_error": one.error,
            }
            for one in scores
        ]
        facts["verdict"] = found[-1]
    if arguments.json:
        return print_facts(facts, code)
    return print_report("\n".join(lines), code)


def _score_front(arguments: argparse.Namespace, path: Path) -> list[PreprocessingScore]:
    from clicooper_hpc.data.dataset import open_dataset
    from clicooper_hpc.fronts.preprocessing_check import score_preprocessings
    from clicooper_hpc.fronts.published_weights import PUBLISHED

    published = PUBLISHED[arguments.name]
    preprocessings = (published.preprocessing, *published.alternatives)
    with open_dataset(arguments.check) as data:
        return score_preprocessings(
            path, data, preprocessings, side=arguments.side, rows=arguments.rows
        )


def _check_front(
    arguments: argparse.Namespace, scores: Sequence[PreprocessingScore]
) -> tuple[list[str], ExitCode]:
    lines = [f"accuracy of a linear discriminant, images of {arguments.side} pixels a side:"]
    for one in scores:
        means = " ".join(f"{value:.4g}" for value in one.preprocessing.mean)
        deviations = " ".join(f"{value:.4g}" for value in one.preprocessing.std)
        lines.append(
            f"  {one.preprocessing.name:<28} mean {means}, deviation {deviations}: "
            f"{100 * one.accuracy:.1f} %"
        )
    rival = min(scores[1:], key=lambda one: one.behind)
    gap = f"{100 * abs(rival.behind):.1f} points (standard error {100 * rival.error:.1f})"
    # One that is as good within chance is no reason to doubt what the front declares.
    if rival.behind < -2 * rival.error:
        lines.append(f"WRONG: {rival.preprocessing.name} wins over the declared one by {gap}")
        return lines, ExitCode.VERIFICATION
    if rival.behind <= 2 * rival.error:
        lines.append(f"no difference to {rival.preprocessing.name} beyond chance: {gap}")
    else:
        lines.append(f"the declared one wins over {rival.preprocessing.name} by {gap}")
    return lines, ExitCode.DONE


FRONT_IMPORT = Command(
    "import", "make a public front of published weights", _add_front_options, _import_front
)
