"""One frame of `clicooper watch`: a `RunSnapshot` as lines of text of at most a given width."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

from clicooper_hpc.printable import printable_text
from clicooper_hpc.progress.durations import duration_text
from clicooper_hpc.watch.snapshot import RankActivity, RunSnapshot

__all__ = ["SILENCE_S", "folded_lines", "frame_lines", "state_words"]

#: Without a change for so long a run is no longer taken for a living one.
SILENCE_S: Final = 300.0
#: A name of which less is left beside the state gets a line of its own.
_LEAST_NAME: Final = 8
_LABEL: Final = 10
#: Less of a host's name says nothing.
_LEAST_HOST: Final = 6
_LEAST_BAR: Final = 4
_GAP: Final = "  "
_MOST_SHARE_COLUMNS: Final = 10


def frame_lines(
    name: str, snapshot: RunSnapshot, *, now: float, width: int = 80, rows: int | None = None
) -> list[str]:
    """Return the frame; every line is printable and has at most ``width`` characters.

    Sentences that are longer go on in the next line; of the table of ranks, columns are left out.

    Parameters
    ----------
    name
        What the run was called on the command line.
    now
        Seconds of the system's clock.
    width
        At least 1.
    rows
        At most so many lines: of many ranks some are left out, and it is said how many; in a
        lower frame all of them, then what stands below them. None: all.
    """
    head = [
        *_both_ends(name, state_words(snapshot, now), width),
        *_folded(_progress_lines(snapshot, width), width),
        *_folded(_result_lines(snapshot), width),
    ]
    foot = [
        *_folded(_ledger_lines(snapshot, width), width),
        *_folded(_change_lines(snapshot, now), width),
    ]
    table = _rank_table(snapshot.ranks, width)
    if rows is not None and table:
        # One line of it is its head.
        room = rows - len(head) - len(foot) - 1
        table = [table[0], *_shortened(table[1:], room)] if room > 0 else []
    return [_cut(printable_text(line), width) for line in (*head, *table, *foot)][:rows]


def folded_lines(text: str, width: int) -> list[str]:
    """Return ``text``, made printable, in lines of at most ``width`` characters, at least 1."""
    return textwrap.wrap(printable_text(text), width)


def state_words(snapshot: RunSnapshot, now: float) -> str:
    """Return in what state a run is, in a few words."""
    if snapshot.status == "complete":
        return "complete"
    if snapshot.saved_step is not None:
        return f"saved after step {snapshot.saved_step}, to be started again"
    silence = now - snapshot.changed
    if silence >= SILENCE_S:
        return f"NO CHANGE FOR {duration_text(silence)}: may be dead"
    return "starting" if snapshot.status == "starting" else "running"


def _progress_lines(snapshot: RunSnapshot, width: int) -> list[str]:
    if snapshot.status == "starting":
        return ["nothing has left the owner yet"]
    done, total = snapshot.done_steps, snapshot.total_steps
    words = [f"step {done:,} of {total:,}" if total else f"step {done:,}"]
    trained = snapshot.trained
    # Of the rank that the steps are counted by.
    epoch = next((one.epoch for one in snapshot.ranks if one.steps == done and not one.fault), None)
    if epoch is not None:
        of = f" of {snapshot.epochs:,}" if snapshot.epochs else ""
        words.append(f"epoch {epoch + 1:,}{of}")
    timed = trained or next((one for one in reversed(snapshot.ranks) if one.step_s), None)
    if timed is not None and timed.step_s:
        if timed.samples:
            words.append(f"{timed.samples / timed.step_s:,.0f} samples/s")
        if total and done < total and snapshot.status != "complete":
            words.append(f"about {duration_text((total - done) * timed.step_s)} left")
    lines = [", ".join(words)]
    if total:
        share = min(done / total, 1.0)
        columns = width - 8
        filled = int(columns * share)
        bar = f"[{'#' * filled}{'-' * (columns - filled)}] " if columns >= _LEAST_BAR else ""
        lines.append(f"{bar}{int(100 * share):>3} %")
    return lines


def _result_lines(snapshot: RunSnapshot) -> list[str]:
    lines = []
    trained = snapshot.trained
    if trained is not None:
        words = [f"loss {trained.loss:.4f} (first {trained.first_loss:.4f})"]
        if trained.accuracy is not None:
            words.append(f"sub-labels right {100 * trained.accuracy:.1f} %")
        lines.append(", ".join(words))
    if snapshot.clean_accuracy is not None:
        at = (
            ""
            if snapshot.evaluated_epoch is None
            else f", after epoch {snapshot.evaluated_epoch + 1}"
        )
        lines.append(
            f"accuracy on clean held-out samples {100 * snapshot.clean_accuracy:.2f} %{at}"
        )
    lines += _privacy_lines(snapshot)
    return lines


def _privacy_lines(snapshot: RunSnapshot) -> list[str]:
    if snapshot.private is False:
        return ["NO PRIVACY"]
    promised = "" if snapshot.promised is None else f" of {snapshot.promised:.4g}"
    spent = snapshot.spent
    if spent is None:
        # A run that starts, or a release of sums, which has no rows.
        return (
            [f"privacy promised: epsilon{promised.removeprefix(' of')} a sample"]
            if promised
            else []
        )
    return [
        f"privacy spent: epsilon {spent.epsilon:.4g}{promised}, delta {spent.delta:.4g} a sample; "
        f"{spent.samples:,} released"
    ]


def _rank_table(ranks: Sequence[RankActivity], width: int) -> list[str]:
    """Return a head and a line for every rank, of as many columns as have room; of none, none."""
    if not ranks:
        return []
    cells = [("rank", "step", f"{'busy':<15}", f"{'waiting':<8}", "host")]
    for one in ranks:
        label = f"{one.rank} trainer" if one.rank else "0 owner"
        busy = f"{_graph(one.busy)} {_share(one.busy)}"
        cells.append((label, f"{one.steps:,}", busy, f"{_share(one.waiting):<8}", one.host))
    labels = max(_LABEL, *(len(line[0]) for line in cells))
    steps = max(9, *(len(line[1]) for line in cells))
    # A number of which the end is missing would be another number: whole columns go.
    least = (labels, steps, 15, 8, _LEAST_HOST)
    shown = 1
    while shown < len(least) and sum(least[: shown + 1]) + len(_GAP) * shown <= width:
        shown += 1
    lines = [
        _GAP.join((f"{label:<{labels}}", f"{step:>{steps}}", *others)[:shown]).rstrip()
        for label, step, *others in cells
    ]
    for place, one in enumerate(ranks, start=1):
        if one.fault:
            lines[place] = f"{cells[place][0]:<{labels}}{_GAP}UNREADABLE ({one.fault})"
    return lines


def _share(value: float | None) -> str:
    return f"{'-':>5}" if value is None else f"{100 * value:>3.0f} %"


def _graph(value: float | None) -> str:
    filled = 0 if value is None else round(_MOST_SHARE_COLUMNS * value)
    return f"{'#' * filled}{'.' * (_MOST_SHARE_COLUMNS - filled)}"[:9]


def _ledger_lines(snapshot: RunSnapshot, width: int) -> list[str]:
    if not snapshot.entries:
        return []
    line = f"ledger, {snapshot.entries:,} entries (not verified): "
    newest = [one.words for one in reversed(snapshot.events)]
    # As many as have room; the newest in any case.
    while len(newest) > 1 and len(line) + len("; ".join(newest)) > width:
        newest.pop()
    return [line + "; ".join(newest)]


def _change_lines(snapshot: RunSnapshot, now: float) -> list[str]:
    silence = now - snapshot.changed
    lines = [f"last change {duration_text(silence)} ago"]
    if snapshot.restarts:
        lines[0] += f"; started again {snapshot.restarts:,} time{'s' * (snapshot.restarts != 1)}"
    if snapshot.status != "complete" and snapshot.saved_step is None and silence >= SILENCE_S:
        lines.append("a long step writes nothing either; after a kill: clicooper resume")
    return lines


def _shortened(lines: Sequence[str], rows: int) -> list[str]:
    """Return ``lines``, or as many as leave room for one that says how many are missing."""
    if len(lines) <= rows:
        return list(lines)
    shown = max(rows - 1, 1)
    # Ends of the chain say most: the owner and the first trainers, and the one with the loss.
    return [*lines[: shown - 1], f"... {len(lines) - shown} more ranks ...", lines[-1]]


def _both_ends(left: str, right: str, width: int) -> list[str]:
    """Return ``left`` and ``right`` at both ends of a line; of ``left`` the end, if need be.

    In lines of their own where too little of ``left`` would be seen.
    """
    left, right = printable_text(left), printable_text(right)
    room = width - len(right) - 2
    if room < min(len(left), _LEAST_NAME):
        return [_cut_front(left, width), *folded_lines(right, width)]
    left = _cut_front(left, room)
    return [f"{left}{' ' * (width - len(left) - len(right))}{right}"]


def _folded(lines: Sequence[str], width: int) -> list[str]:
    return [part for line in lines for part in folded_lines(line, width)]


def _cut_front(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    return f"...{line[3 - width :]}" if width > 3 else line[-width:]


def _cut(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    return f"{line[: width - 3]}..." if width > 3 else line[:width]
