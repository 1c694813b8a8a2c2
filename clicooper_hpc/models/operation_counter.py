"""Counting the floating-point operations of what runs, by the formulas of torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

__all__ = ["OperationCounter"]


class OperationCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context that adds up operations: what ``torch.utils.flop_counter.FlopCounterMode`` counts.

    That class imports torch's compiler, more than a second on every rank, to tell it not to look.

    Attributes
    ----------
    operations
        So far; a multiply-add is 2.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # True, torch's default, is what imports the compiler.
        return False

    def __torch_dispatch__(
        self,
        function: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run ``function`` and count it."""
        given = kwargs or {}
        result = function(*args, **given)
        formula: Callable[..., int] | None = flop_registry.get(function._overloadpacket)
        if formula is not None:
            self.operations += int(formula(*args, **given, out_val=result))
        return result
