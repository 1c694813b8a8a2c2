"""Where a traced graph can be cut: what crosses at each place, and what may not be parted."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from clicooper_hpc.models.traced.graph_parts import held_tensors, is_derived, places
from clicooper_hpc.models.traced.row_sizes import NodeValues, row_multiple

__all__ = ["Crossing", "Cut", "choose_cuts"]


@dataclass(frozen=True, slots=True)
class Crossing:
    """A tensor that crosses a cut: ``multiple`` times the rows along axis 0, then ``shape``."""

    node: fx.Node
    multiple: int
    shape: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """Numbers of one row."""
        return self.multiple * torch.Size(self.shape).numel()


@dataclass(frozen=True, slots=True)
class Cut:
    """In front of step ``before`` of the graph, where these tensors cross."""

    before: int
    crossing: tuple[Crossing, ...]


def choose_cuts(traced: fx.GraphModule, values: NodeValues, *, several: bool) -> list[Cut]:
    """Return the cuts, in order: at most one between two steps that hold parameters.

    It lies as late as it can, so that activations stay with the layer before them. A cut lies only
    where all that crosses are float32 tensors along the rows, and where no parameter is used on
    both sides; without ``several``, only where one tensor crosses.
    """
    nodes = list(traced.graph.nodes)
    place = places(nodes)
    holders = [node for node in nodes if held_tensors(traced, node)]
    holding = sorted({at for node in holders for at in _uses(node, place)})
    together = _kept_together(traced, nodes)
    cuts: list[Cut] = []
    for first, second in itertools.pairwise(holding):
        for before in range(second, first, -1):
            crossing = () if before in together else _crossing(nodes, before, values)
            if crossing and (several or len(crossing) == 1):
                cuts.append(Cut(before, crossing))
                break
    return cuts


def _crossing(nodes: Sequence[fx.Node], before: int, values: NodeValues) -> tuple[Crossing, ...]:
    """Return what crosses in front of a step; nothing if part of it cannot be sent."""
    later = set(nodes[before:])
    crossing = []
    for node in nodes[:before]:
        # A derived step is done again; whoever needs the step itself needs what it reads then.
        if is_derived(node) or not any(_reads(user, later) for user in node.users):
            continue
        one = _sendable(node, values)
        if one is None:
            return ()
        crossing.append(one)
    return tuple(crossing)


def _reads(user: fx.Node, later: set[fx.Node]) -> bool:
    return user in later and not is_derived(user)


def _sendable(node: fx.Node, values: NodeValues) -> Crossing | None:
    one, other = values[node.name]
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return None
    if one.dtype != torch.float32 or one.ndim == 0 or one.shape[1:] != other.shape[1:]:
        return None
    multiple = row_multiple(one.shape[0], other.shape[0])
    return None if multiple is None else Crossing(node, multiple, tuple(one.shape[1:]))


def _kept_together(traced: fx.GraphModule, nodes: Sequence[fx.Node]) -> set[int]:
    """Return places in front of which a cut would part two uses of a parameter or buffer.

    What is derived of parameters is used where its own users stand.
    """
    place = places(nodes)
    spans: dict[int, tuple[int, int]] = {}
    for node in nodes:
        held = held_tensors(traced, node)
        for at in _uses(node, place) if held else ():
            for tensor in held:
                first, last = spans.get(id(tensor), (at, at))
                spans[id(tensor)] = (min(first, at), max(last, at))
    return {at for first, last in spans.values() for at in range(first + 1, last + 1)}


def _uses(node: fx.Node, place: dict[fx.Node, int]) -> set[int]:
    """Return the places of all steps that are done with what ``node`` holds."""
    if not is_derived(node):
        return {place[node]}
    return {at for user in node.users for at in _uses(user, place)}
