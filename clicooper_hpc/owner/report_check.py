"""Whether a report of the last trainer on a step says what can be."""

from __future__ import annotations

from collections.abc import Sequence

from clicooper_hpc.errors import PeerError

__all__ = ["check_report"]


def check_report(values: Sequence[float], *, step: int, rate: float, sender: str) -> None:
    """Refuse a report of impossible figures.

    Parameters
    ----------
    values
        Mean loss in nats, accuracy on sub-labels, learning rate, and 1 if a stop was asked for,
        else 0; all finite.
    step, rate
        Which step is reported, and the learning rate the plan has for it.
    sender
        Who reports, in words.

    Raises
    ------
    PeerError
        Names the first figure that cannot be.
    """
    loss, accuracy, used, stop = values
    wrong = {
        f"a loss of {loss:g}": loss < 0,
        f"an accuracy of {accuracy:g}": not 0 <= accuracy <= 1,
        f"the learning rate {used:g} instead of {rate:g}": used != rate,
        # A stop is followed, so it must be a yes or a no.
        f"{stop:g} where a stop is asked for by 1": stop not in (0, 1),
    }
    for problem, is_wrong in wrong.items():
        if is_wrong:
            raise PeerError(
                f"the report says {problem}",
                where=f"message from {sender} (control), metrics of step {step}",
                remedy=f"Run one clicooper_hpc version on all ranks; else {sender} is at fault",
            )
