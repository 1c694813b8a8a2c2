"""`CooperativeThreads`: threads of which exactly one runs at a time, in a fixed order.

Each body runs in a thread of its own until it waits for something that is not there yet; then the
next body runs, in order of their numbers, whose wait is over. Nothing depends on the
operating system's scheduling, so a replay does the same things in the same order every time. And
what one body does between two waits is never mixed with another's: layers that seed the process's
random generator draw their own numbers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import torch

from clicooper_hpc.errors import ClicooperError

__all__ = ["CooperativeThreads"]


# Of BaseException, so that code which catches Exception lets it pass.
class _ThreadStopped(BaseException):
    """Ends a body because another one failed; nothing between should catch it."""


class CooperativeThreads:
    """Runs bodies together, one at a time.

    Parameters
    ----------
    names
        What each body is called in errors.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._gates = [threading.Semaphore(0) for _ in names]
        self._waits: list[tuple[Callable[[], bool], str] | None] = [None for _ in names]
        self._alive = [True for _ in names]
        self._turn = 0
        self._failure: BaseException | None = None

    def run(self, bodies: Sequence[Callable[[], None]]) -> None:
        """Run ``bodies``, one per name, to their ends; for one call only.

        Raises
        ------
        ClicooperError
            If all that have not ended wait for each other; it says what each one waits for.
        BaseException
            The first exception of a body, as it is; the other bodies end at their next wait.
        """
        if len(bodies) != len(self._names):
            raise ValueError(f"{len(bodies)} bodies for {len(self._names)} names")
        if not bodies:
            return
        # The number of OpenMP threads belongs to each thread; how sums are split over them decides
        # their last bit.
        compute_threads = torch.get_num_threads()
        threads = [
            threading.Thread(
                target=self._run_body, args=(number, body, compute_threads), name=name, daemon=True
            )
            for number, (name, body) in enumerate(zip(self._names, bodies, strict=True))
        ]
        for thread in threads:
            thread.start()
        # All threads stand at their gates; from here on one gate at most is open.
        self._gates[0].release()
        try:
            for thread in threads:
                thread.join()
        except BaseException as error:
            # Interrupted by the user: the body that runs meets this at its next wait.
            self._failure = self._failure or error
            raise
        if self._failure is not None:
            raise self._failure

    def wait(self, ready: Callable[[], bool], what: str) -> None:
        """Return once ``ready()``; until then let the other bodies run.

        Only for the body that runs. ``ready`` must depend on nothing but what bodies do; ``what``
        names the thing waited for.
        """
        # An error ends the other bodies here, between two of their acts.
        if self._failure is not None:
            raise _ThreadStopped
        me = self._turn
        if ready():
            return
        self._waits[me] = (ready, what)
        self._wake_next_thread(me)
        self._gates[me].acquire()
        if self._failure is not None:
            raise _ThreadStopped
        self._waits[me] = None

    def _run_body(self, me: int, body: Callable[[], None], compute_threads: int) -> None:
        self._gates[me].acquire()
        if self._failure is not None:
            return
        torch.set_num_threads(compute_threads)
        try:
            body()
        except _ThreadStopped:
            return
        except BaseException as error:  # noqa: BLE001 - raised again by run
            self._fail_threads(error)
            return
        self._alive[me] = False
        self._wake_next_thread(me)

    def _wake_next_thread(self, me: int) -> None:
        """Wake the next body that can run; if there is none, end all."""
        count = len(self._names)
        # Round from the next one, so that none is passed over; itself last: its wait may be over.
        for number in ((me + offset) % count for offset in range(1, count + 1)):
            if self._alive[number] and self._can_thread_run(number):
                self._turn = number
                self._gates[number].release()
                return
        if any(self._alive):
            self._fail_threads(self._deadlock_error())

    def _can_thread_run(self, number: int) -> bool:
        wait = self._waits[number]
        return wait is None or wait[0]()

    def _deadlock_error(self) -> ClicooperError:
        waits = [
            f"{name} waits for {wait[1]}"
            for name, wait, alive in zip(self._names, self._waits, self._alive, strict=True)
            if alive and wait is not None
        ]
        return ClicooperError(
            f"nothing can go on: {'; '.join(waits)}",
            where="replay",
            remedy="Give the audit the job, the cuts and the schedule of the run",
        )

    def _fail_threads(self, error: BaseException) -> None:
        self._failure = self._failure or error
        # All at once: each meets the failure at its gate and returns.
        for gate in self._gates:
            gate.release()
