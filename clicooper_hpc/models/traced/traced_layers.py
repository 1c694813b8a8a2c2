"""A module of any form as a flat ``nn.Sequential``: pieces of its traced graph, one after another.

Where several tensors cross between two pieces (the branches of a residual block, skips over a cut)
they travel as one: laid flat and side by side, [rows, numbers]. So a boundary stays one tensor and
one message, and pieces are layers as all others are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn

from clicooper_hpc.errors import UsageError
from clicooper_hpc.models.dry_run import USER_ERRORS, dry_run_mode, dry_run_rows
from clicooper_hpc.models.traced.cut_graph import Crossing, Cut, choose_cuts
from clicooper_hpc.models.traced.graph_parts import copied, derived_steps, input_of, output_value
from clicooper_hpc.models.traced.row_sizes import ROWS, fix_sizes, observe_nodes
from clicooper_hpc.models.traced.trace_module import trace_module

__all__ = ["traced_layers"]


def traced_layers(
    module: nn.Module, input_shape: tuple[int, ...], *, several: bool, where: str
) -> nn.Sequential:
    """Return ``module`` as layers that compute what it computes, with its own parameters.

    Parameters
    ----------
    module
        On the CPU. Its forward takes float32 rows [rows, *input_shape] and gives [rows, outputs].
        Its options ``inplace`` are set to False.
    several
        Whether layers end also where more than one tensor crosses.
    where
        Names the network in errors.

    Raises
    ------
    UsageError
        It cannot be traced, or gives something else than one tensor, or the layers would not
        compute the same.
    """
    traced = trace_module(module, where)
    rows = dry_run_rows(module, input_shape, rows=ROWS[0])
    expected = _answers(module, rows, where)
    values = observe_nodes(traced, input_shape, where)
    fix_sizes(traced.graph, values, where)
    traced.recompile()
    layers = _pieces(traced, choose_cuts(traced, values, several=several))
    _check_same(module, layers, rows, expected, where)
    return layers


def _answers(module: nn.Module, rows: Tensor, where: str) -> Tensor:
    """Return what the module gives for made-up rows, in evaluation mode, with its history."""
    with dry_run_mode(module, training=False), torch.enable_grad():
        try:
            result = module(rows)
        except USER_ERRORS as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UsageError(
                f"fails on samples of shape {list(rows.shape[1:])}: {reason}", where=where
            ) from error
    if not isinstance(result, Tensor):
        raise UsageError(
            f"the network gives a {type(result).__name__}, not one tensor",
            where=where,
            remedy="Wrap it in a module whose forward returns the class scores alone.",
        )
    return result


def _check_same(
    module: nn.Module, layers: nn.Sequential, rows: Tensor, expected: Tensor, where: str
) -> None:
    """Raise unless the layers give what the module gives, and learn what it learns.

    Tracing loses what is no operation on a tensor: state that is kept, gradients switched off.
    """
    with dry_run_mode(layers, training=False), torch.enable_grad():
        found = layers(rows)
    # Last bits may differ: a tensor that crosses is laid out anew, and kernels add by layout.
    if not torch.allclose(found, expected, rtol=1e-4, atol=1e-5):
        raise UsageError(
            "its traced layers compute something else than the network",
            where=where,
            remedy="Its forward may keep state or write into tensors it has handed on.",
        )
    names, parameters = zip(*module.named_parameters(), strict=True)
    if not expected.requires_grad:
        mine: tuple[Tensor | None, ...] = (None,) * len(names)
    else:
        mine = _gradients(expected, parameters)
    for name, one, other in zip(names, mine, _gradients(found, parameters), strict=True):
        if (one is None) != (other is None) or (
            one is not None and other is not None and not _nearly(one, other)
        ):
            raise UsageError(
                f"its traced layers would train {name} otherwise than the network",
                where=where,
                remedy="torch.no_grad() in a forward is not traced: call .detach() on the tensor, "
                "or requires_grad_(False) on the parameter.",
            )


def _gradients(result: Tensor, parameters: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """Return the gradient of a weighted sum of ``result`` for each parameter, None without one."""
    learning = [one for one in parameters if one.requires_grad]
    weights = torch.cos(torch.arange(result.numel(), dtype=result.dtype)).reshape(result.shape)
    found = iter(torch.autograd.grad((result * weights).sum(), learning, allow_unused=True))
    return tuple(next(found) if one.requires_grad else None for one in parameters)


def _nearly(one: Tensor, other: Tensor) -> bool:
    # Relative to the whole tensor: sums of terms that cancel differ in their last bits by more.
    return bool((one - other).norm() <= 1e-3 * max(float(one.norm()), 1e-6))


def _pieces(traced: fx.GraphModule, cuts: Sequence[Cut]) -> nn.Sequential:
    nodes = list(traced.graph.nodes)
    derived = derived_steps(traced.graph)
    starts = [0, *(cut.before for cut in cuts)]
    ends = [*starts[1:], len(nodes)]
    gates: list[Cut | None] = [None, *cuts, None]
    return nn.Sequential(
        *(
            _piece(
                traced,
                [node for node in nodes[start:end] if node not in derived],
                gates[at],
                gates[at + 1],
            )
            for at, (start, end) in enumerate(zip(starts, ends, strict=True))
        )
    )


def _piece(
    traced: fx.GraphModule, nodes: Sequence[fx.Node], before: Cut | None, behind: Cut | None
) -> fx.GraphModule:
    """Return steps between two cuts, none of them derived, as a module of one tensor to one."""
    graph = fx.Graph()
    source = graph.placeholder("rows")
    found: dict[fx.Node, fx.Node] = {}
    if before is None:
        found[input_of(traced.graph)] = source
    else:
        found |= _unpacked(graph, source, before.crossing)
    for node in nodes:
        if node.op not in {"placeholder", "output"}:
            copied(graph, node, found, source)
    if behind is None:
        result = output_value(traced.graph)
        graph.output(found[result])
    else:
        graph.output(_packed(graph, found, behind.crossing))
    return fx.GraphModule(traced, graph, class_name=_name(nodes))


def _name(nodes: Sequence[fx.Node]) -> str:
    """Return a name of a piece: the first module in it that is called."""
    called = [str(node.target) for node in nodes if node.op == "call_module"]
    return called[0].replace(".", "_") if called else "steps"


def _is_plain(crossing: Sequence[Crossing]) -> bool:
    return len(crossing) == 1 and crossing[0].multiple == 1


def _packed(
    graph: fx.Graph, found: dict[fx.Node, fx.Node], crossing: Sequence[Crossing]
) -> fx.Node:
    inner = [found[one.node] for one in crossing]
    if _is_plain(crossing):
        # MPI sends the memory of a tensor as it lies.
        return graph.call_method("contiguous", (inner[0],))
    flat = [
        graph.call_function(_flat_rows, (tensor, one.multiple))
        for tensor, one in zip(inner, crossing, strict=True)
    ]
    return graph.call_function(torch.cat, (flat, 1))


def _unpacked(
    graph: fx.Graph, source: fx.Node, crossing: Sequence[Crossing]
) -> dict[fx.Node, fx.Node]:
    if _is_plain(crossing):
        return {crossing[0].node: source}
    found, start = {}, 0
    for one in crossing:
        stop = start + one.numbers
        found[one.node] = graph.call_function(
            _shaped_rows, (source, start, stop, one.multiple, one.shape)
        )
        start = stop
    return found


def _flat_rows(tensor: Tensor, multiple: int) -> Tensor:
    """Return [multiple x rows, ...] as [rows, numbers]."""
    return tensor.reshape(tensor.shape[0] // multiple, -1)


def _shaped_rows(
    packed: Tensor, start: int, stop: int, multiple: int, shape: tuple[int, ...]
) -> Tensor:
    """Return columns ``start`` to ``stop`` of [rows, numbers] as [multiple x rows, *shape]."""
    return packed[:, start:stop].reshape(packed.shape[0] * multiple, *shape)
