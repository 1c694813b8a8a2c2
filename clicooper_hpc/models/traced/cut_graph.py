"""Where a traced graph can be cut: what crosses at each place, and what may not be parted."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from clicooper_hpc.models.traced.graph_parts import derived_steps, held_tensors, places
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
    derived = derived_steps(traced.graph)
    uses = _uses_of_tensors(traced, nodes, derived)
    holding = sorted(set().union(*uses.values()))
    # In front of these places a cut would part two uses of a parameter or buffer.
    together = {at for one in uses.values() for at in range(min(one) + 1, max(one) + 1)}
    last_use = _last_uses(nodes, derived)
    cuts: list[Cut] = []
    for first, second in itertools.pairwise(holding):
        for before in range(second, first, -1):
            if before in together:
                continue
            alive = [node for node in nodes[:before] if last_use.get(node, -1) >= before]
            crossing = tuple(_sendable(node, values) for node in alive)
            sent = tuple(one for one in crossing if one is not None)
            if sent and len(sent) == len(alive) and (several or len(sent) == 1):
                cuts.append(Cut(before, sent))
                break
    return cuts


def _last_uses(nodes: Sequence[fx.Node], derived: frozenset[fx.Node]) -> dict[fx.Node, int]:
    """Return where each step that is not derived is read last, by one that is not either.

    A derived step is done again: what it reads are sizes, which every piece has.
    """
    place = places(nodes)
    return {
        node: max((place[user] for user in node.users if user not in derived), default=-1)
        for node in nodes
        if node not in derived
    }


def _sendable(node: fx.Node, values: NodeValues) -> Crossing | None:
    one, other = values[node.name]
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return None
    if one.dtype != torch.float32 or one.ndim == 0 or one.shape[1:] != other.shape[1:]:
        return None
    multiple = row_multiple(one.shape[0], other.shape[0])
    return None if multiple is None else Crossing(node, multiple, tuple(one.shape[1:]))


def _uses_of_tensors(
    traced: fx.GraphModule, nodes: Sequence[fx.Node], derived: frozenset[fx.Node]
) -> dict[int, set[int]]:
    """Return for each parameter and buffer, by its id, the places of the steps that use it.

    What is derived of it is used where its own users stand.
    """
    place = places(nodes)
    users: dict[fx.Node, set[int]] = {}
    # From the end: the users of a step are known before it.
    for node in reversed(nodes):
        if node in derived:
            users[node] = set().union(*(users[user] for user in node.users))
        else:
            users[node] = {place[node]}
    uses: dict[int, set[int]] = {}
    for node in nodes:
        for tensor in held_tensors(traced, node):
            uses.setdefault(id(tensor), set()).update(users[node])
    return {key: found for key, found in uses.items() if found}
