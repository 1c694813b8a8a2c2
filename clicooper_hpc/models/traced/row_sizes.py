"""Numbers in a traced graph that follow from shapes: fixed ones, and multiples of the rows.

A piece of a graph sees only what crosses into it, so ``x.shape[0]`` of some earlier tensor has to
become a number, or so many times the rows at hand. Two runs with unlike numbers of rows tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from clicooper_hpc.errors import UsageError
from clicooper_hpc.models.dry_run import USER_ERRORS, dry_run_mode, dry_run_rows
from clicooper_hpc.models.traced.graph_parts import SIZE_MARK, input_of, size_steps

__all__ = ["ROWS", "NodeValues", "fix_sizes", "observe_nodes", "row_multiple"]

#: Rows of the two runs: sizes of layers are seldom multiples of both.
ROWS = (10, 13)

NodeValues = Mapping[str, tuple[Any, Any]]


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps what every node gave."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.seen: dict[str, Any] = {}
        self.at = ""

    def run_node(self, n: fx.Node) -> Any:
        self.at = n.name
        self.seen[n.name] = super().run_node(n)
        return self.seen[n.name]


def observe_nodes(
    traced: fx.GraphModule, input_shape: tuple[int, ...], where: str
) -> dict[str, tuple[Any, Any]]:
    """Return what every node gives for ``ROWS[0]`` and for ``ROWS[1]`` rows, in evaluation mode.

    Raises ``UsageError`` if the network fails on samples of ``input_shape``; names the step.
    """
    runs = []
    with dry_run_mode(traced, training=False), torch.no_grad():
        for rows in ROWS:
            recorder = _Recorder(traced)
            try:
                recorder.run(dry_run_rows(traced, input_shape, rows=rows))
            except USER_ERRORS as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise UsageError(
                    f"fails on samples of shape {list(input_shape)}: {reason}",
                    where=f"{where}, step {recorder.at}",
                ) from error
            runs.append(recorder.seen)
    return {name: (runs[0][name], runs[1][name]) for name in runs[0]}


def row_multiple(one: int, other: int) -> int | None:
    """Return m if the two sizes are m times the rows of the two runs, else None."""
    multiple, rest = divmod(one, ROWS[0])
    return multiple if rest == 0 and multiple > 0 and other == multiple * ROWS[1] else None


def fix_sizes(graph: fx.Graph, values: NodeValues, where: str) -> None:
    """Put numbers in place of all steps that give no tensor, in terms of the rows at hand.

    Such a step becomes a constant, or, where a number grew with the rows, so many times the first
    axis of the graph's input. Steps for a tensor's device stay.

    Raises ``UsageError`` for a number that is neither.
    """
    source = input_of(graph)
    for node in list(graph.nodes):
        if node.op in {"placeholder", "output", "call_module"} or _holds_tensor(
            values[node.name][0]
        ):
            continue
        if node.target is getattr and node.args[1] == "device":
            node.update_arg(0, source)
            node.meta[SIZE_MARK] = True
            continue
        if node.target is torch._assert:
            # It held for both runs, and what it asks is a constant now.
            graph.erase_node(node)
            continue
        if not node.users:
            continue
        with graph.inserting_before(node):
            value = _rewritten(graph, source, *values[node.name], f"{where}, step {node.name}")
        for user in list(node.users):
            _put(user, node, value)
    graph.eliminate_dead_code()


def _put(user: fx.Node, node: fx.Node, value: Any) -> None:
    """Let ``user`` take ``value`` in place of what ``node`` gives."""

    def new(argument: fx.Node) -> Any:
        return value if argument is node else argument

    user.args = fx.node.map_arg(user.args, new)
    user.kwargs = fx.node.map_arg(user.kwargs, new)


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_holds_tensor(part) for part in value.values())
    if isinstance(value, tuple | list):
        return any(_holds_tensor(part) for part in value)
    return isinstance(value, Tensor)


def _rewritten(graph: fx.Graph, source: fx.Node, one: Any, other: Any, where: str) -> Any:
    """Return ``one``, with numbers that grow with the rows as nodes."""
    if isinstance(one, tuple | list) and isinstance(other, tuple | list) and len(one) == len(other):
        parts = [_rewritten(graph, source, *pair, where) for pair in zip(one, other, strict=True)]
        return tuple(parts) if isinstance(one, tuple) else parts
    if one == other:
        return one
    multiple = None
    if isinstance(one, int) and isinstance(other, int):
        multiple = row_multiple(one, other)
    if multiple is None:
        raise UsageError(
            f"gives {one} for {ROWS[0]} rows and {other} for {ROWS[1]}: neither a fixed number nor "
            "a multiple of the rows",
            where=where,
            remedy="Only the number of rows may follow from how many there are.",
        )
    return size_steps(graph, source, multiple)
