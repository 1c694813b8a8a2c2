"""`Closing`: the one ``__exit__`` of everything that is closed at the end of a ``with`` block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

__all__ = ["Closing"]


class Closing(ABC):
    """Context manager whose end depends at most on the exception that ended the block.

    `contextlib.closing` does not do: it calls ``close()`` whatever happened, and most of ours must
    not flush, wait or rename after an error. No exception is ever swallowed.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Nothing is returned, so the exception that ended the block goes on.
        self.close_on_exit(error)

    @abstractmethod
    def close_on_exit(self, error: BaseException | None) -> None:
        """Let go of everything; ``error`` ended the block, None if it came to its end."""
