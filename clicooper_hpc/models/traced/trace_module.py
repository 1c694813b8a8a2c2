"""Traces a module with ``torch.fx``: no step works in place, none is fixed to training."""

from __future__ import annotations

import inspect
import operator
from typing import Any

import torch
from torch import fx, nn

from clicooper_hpc.errors import UsageError
from clicooper_hpc.models.dry_run import USER_ERRORS, own_prints_aside

__all__ = ["TrainingFlag", "trace_module"]

_REMEDY = (
    "Give an nn.Sequential, or a module whose forward does not branch on numbers of its input: "
    "torch.fx.symbolic_trace must take it."
)
_IN_PLACE = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}


class TrainingFlag(nn.Module):
    """Whether its network is in training mode, where a forward asks for ``self.training``."""

    def forward(self) -> bool:
        """Return the mode."""
        return self.training


class _Tracer(fx.Tracer):
    """A module without modules of its own is one step of the graph: it knows its own mode."""

    # Else what is computed of buffers alone is frozen into the graph.
    proxy_buffer_attributes = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return next(m.children(), None) is None or super().is_leaf_module(m, module_qualified_name)


def trace_module(module: nn.Module, where: str) -> fx.GraphModule:
    """Return the graph of ``module``, with its own parameters, in training mode.

    Modules with an option ``inplace`` are set to leave their input as it is, and operations in
    place become those that are not: the same numbers. Where the forward asks for
    ``self.training`` in a call, the graph asks a `TrainingFlag`.

    Raises
    ------
    UsageError
        The forward cannot be traced, takes more than one tensor, or is another graph in training
        than in evaluation. ``where`` names the network.
    """
    for part in module.modules():
        if getattr(part, "inplace", False) is True:
            part.inplace = False  # type: ignore[assignment]
    fixed = _fixed_arguments(module, where)
    graphs = []
    for training in (True, False):
        module.train(training)
        try:
            with own_prints_aside():
                graphs.append(_Tracer().trace(module, fixed))
        except USER_ERRORS as error:
            reason = (str(error).splitlines() or [""])[0]
            raise UsageError(
                f"the network cannot be traced: {type(error).__name__}: {reason}",
                where=where,
                remedy=_REMEDY,
            ) from error
    module.train()
    traced = fx.GraphModule(module, graphs[0])
    _follow_mode(traced, graphs[1], where)
    _leave_inputs(traced.graph)
    traced.recompile()
    return traced


def _fixed_arguments(module: nn.Module, where: str) -> dict[str, Any]:
    """Return the defaults of all arguments but the first: they are not traced."""
    arguments = list(inspect.signature(module.forward).parameters.values())
    plain = [one for one in arguments if one.kind is not one.VAR_KEYWORD]
    needed = [one for one in plain[1:] if one.default is one.empty]
    if not plain or needed or plain[0].kind is plain[0].VAR_POSITIONAL:
        names = [
            ("*" if one.kind is one.VAR_POSITIONAL else "") + one.name
            for one in [*plain[:1], *needed]
        ]
        takes = ", ".join(names) or "nothing"
        raise UsageError(
            f"the network's forward takes {takes}, not one tensor",
            where=where,
            remedy="Wrap it in a module whose forward takes the rows alone.",
        )
    return {one.name: one.default for one in plain[1:]}


def _follow_mode(traced: fx.GraphModule, other: fx.Graph, where: str) -> None:
    """Let arguments that are True in training and False in evaluation follow the mode."""
    trained, evaluated = list(traced.graph.nodes), list(other.nodes)
    same = len(trained) == len(evaluated) and all(
        one.op == two.op and one.target == two.target and one.name == two.name
        for one, two in zip(trained, evaluated, strict=True)
    )
    if not same:
        raise UsageError(
            "the forward does other things in training than in evaluation",
            where=where,
            remedy="Put what differs into a module without modules of its own.",
        )
    for one, two in zip(trained, evaluated, strict=True):
        here, there = _arguments(one), _arguments(two)
        unlike = [key for key in here if str(here[key]) != str(there[key])]
        for key in unlike:
            if here[key] is not True or there[key] is not False:
                raise UsageError(
                    f"{one.name} gets {here[key]} in training and {there[key]} in evaluation",
                    where=where,
                    remedy="Put what differs into a module without modules of its own.",
                )
            _set_argument(one, key, _flag_before(traced, one))


def _flag_before(traced: fx.GraphModule, node: fx.Node) -> fx.Node:
    if not hasattr(traced, "training_flag"):
        traced.add_submodule("training_flag", TrainingFlag())
    with traced.graph.inserting_before(node):
        return traced.graph.call_module("training_flag")


def _arguments(node: fx.Node) -> dict[int | str, Any]:
    arguments: dict[int | str, Any] = dict(enumerate(node.args))
    arguments.update(node.kwargs)
    return arguments


def _set_argument(node: fx.Node, key: int | str, value: fx.Node) -> None:
    if isinstance(key, int):
        node.update_arg(key, value)
    else:
        node.update_kwarg(key, value)


def _leave_inputs(graph: fx.Graph) -> None:
    """Replace what writes into a tensor by what makes a new one, with the same numbers."""
    for node in graph.nodes:
        if node.op == "call_function" and node.target in _IN_PLACE:
            node.target = _IN_PLACE[node.target]
        elif node.op == "call_method" and _has_twin(str(node.target)):
            node.target = str(node.target).removesuffix("_")
        elif node.kwargs.get("inplace") is True:
            node.update_kwarg("inplace", False)
        else:
            continue
        _hand_on(node)


def _hand_on(node: fx.Node) -> None:
    """Let whoever reads, behind ``node``, what it wrote into read its result."""
    written = node.args[0] if node.args else None
    later = node.next
    while isinstance(written, fx.Node) and later.op != "root":
        later.replace_input_with(written, node)
        later = later.next


def _has_twin(method: str) -> bool:
    plain = method.removesuffix("_")
    in_place = method.endswith("_") and not method.endswith("__")
    return in_place and hasattr(torch.Tensor, plain)
