"""What a traced graph is made of, step by step: what a step holds, and what any piece can redo."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

__all__ = [
    "SIZE_MARK",
    "copied",
    "derived_steps",
    "held_tensors",
    "input_of",
    "output_value",
    "places",
    "size_steps",
]

#: Set in ``node.meta`` of steps that count the rows of the graph's input or find its device.
SIZE_MARK = "size of the input"

_RANDOM = (torch.rand, torch.randn, torch.bernoulli, torch.rand_like, torch.randn_like)


def input_of(graph: fx.Graph) -> fx.Node:
    """Return the step that stands for the rows."""
    found: fx.Node = next(node for node in graph.nodes if node.op == "placeholder")
    return found


def output_value(graph: fx.Graph) -> Any:
    """Return what the graph gives, in terms of its steps."""
    return next(node for node in graph.nodes if node.op == "output").args[0]


def derived_steps(graph: fx.Graph) -> frozenset[fx.Node]:
    """Return the steps that follow from parameters and the number of rows alone.

    Such a step need not cross a cut: every piece that wants its result can do it again.
    """
    found: set[fx.Node] = set()
    # Steps stand behind all that they read.
    for node in graph.nodes:
        first = node.meta.get(SIZE_MARK) or node.op == "get_attr"
        follows = node.op not in {"placeholder", "output"} and node.target not in _RANDOM
        if first or (follows and found.issuperset(node.all_input_nodes)):
            found.add(node)
    return frozenset(found)


def held_tensors(traced: fx.GraphModule, node: fx.Node) -> list[Tensor]:
    """Return parameters and buffers that a step uses itself."""
    if node.op == "call_module":
        module = traced.get_submodule(str(node.target))
        return [*module.parameters(), *module.buffers()]
    if node.op == "get_attr":
        owner, _, name = str(node.target).rpartition(".")
        held = getattr(traced.get_submodule(owner), name)
        return [held] if isinstance(held, Tensor) else []
    return []


def copied(
    graph: fx.Graph, node: fx.Node, found: dict[fx.Node, fx.Node], source: fx.Node
) -> fx.Node:
    """Return ``node`` in another graph, with all derived steps that it needs before it.

    ``found`` maps steps to those of ``graph`` and grows; all that ``node`` needs are derived steps
    or in it already. ``source`` is the input of ``graph``.
    """

    def get(one: fx.Node) -> fx.Node:
        if one not in found:
            # A size asks the input of its own graph: rows are rows on both sides of a cut.
            found[one] = graph.node_copy(one, of_source if one.meta.get(SIZE_MARK) else get)
        return found[one]

    def of_source(one: fx.Node) -> fx.Node:
        return source if one.op == "placeholder" else get(one)

    found[node] = graph.node_copy(node, get)
    return found[node]


def size_steps(graph: fx.Graph, source: fx.Node, multiple: int) -> fx.Node:
    """Return a new step: ``multiple`` times the rows of ``source``."""
    shape = graph.call_function(getattr, (source, "shape"))
    rows = graph.call_function(operator.getitem, (shape, 0))
    times = graph.call_function(operator.mul, (rows, multiple))
    for one in (shape, rows, times):
        one.meta[SIZE_MARK] = True
    return times


def places(nodes: Sequence[fx.Node]) -> dict[fx.Node, int]:
    """Return where each step stands."""
    return {node: at for at, node in enumerate(nodes)}
