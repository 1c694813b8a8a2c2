"""The network of a front: layers with public weights, read at their end or at several places."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from clicooper_hpc.config.read_out import ReadOut, longest_read_out
from clicooper_hpc.errors import DataError
from clicooper_hpc.fronts.layer_spec import (
    Layer,
    build_layers,
    layers_stay_non_negative,
    layers_to_objects,
    trace_layer_shapes,
    walk_layers,
)
from clicooper_hpc.fronts.pooling import pool_read_out, pooled_size, pooling_keeps_sign

__all__ = ["Network"]

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Network:
    """``network((x - mean) / std)`` in evaluation mode, read at its end or at several places.

    Parameters
    ----------
    layers
        The network's layer list.
    shape
        Shape of one row as the network wants it; rows of equal size are reshaped.
    mean, std
        One number, or one per channel (first axis of ``shape``).
    weights
        State by name (``"0.weight"``), float32.
    read_outs
        If given, a row becomes these, one after the other in one vector, instead of the output.
    mirror
        Take the mean of what comes out for an image and for its mirror image (last axis).
    """

    layers: tuple[Layer, ...]
    shape: Shape
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights: Mapping[str, Tensor] = field(repr=False)
    read_outs: tuple[ReadOut, ...] = ()
    mirror: bool = False
    _module: nn.Sequential = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        with torch.random.fork_rng(devices=[]):  # starting weights are drawn, then replaced
            module = build_layers(self.layers)
        found = module.load_state_dict(dict(self.weights), strict=False)
        missing = [name for name in found.missing_keys if not name.endswith("num_batches_tracked")]
        if missing or found.unexpected_keys:
            raise ValueError("weights do not belong to these layers")
        if self.read_outs and longest_read_out(self.read_outs) > len(self.layers):
            raise ValueError("a read-out lies behind the last layer")
        for tensor in module.parameters():
            if tensor.ndim == 4:
                tensor.data = tensor.data.contiguous(memory_format=self._memory_format())
        object.__setattr__(self, "_module", module)

    def output_shape(self, input_shape: Shape) -> Shape:
        """See `clicooper_hpc.fronts.operations.Operation`."""
        if math.prod(input_shape) != math.prod(self.shape):
            raise DataError(
                f"rows have shape {input_shape}, the front takes {self.shape}", where="front"
            )
        if self.mirror and len(self.shape) != 3:
            raise DataError(f"rows of shape {self.shape} have no mirror image", where="front")
        shapes = trace_layer_shapes(self.layers, self.shape, where="front")
        if not self.read_outs:
            return shapes[-1]
        return (sum(pooled_size(one, shapes[one.after - 1]) for one in self.read_outs),)

    def non_negative(self, before: bool) -> bool:
        """See `clicooper_hpc.fronts.operations.Operation`."""
        if not self.read_outs:
            return layers_stay_non_negative(self.layers)
        return all(
            pooling_keeps_sign(one, layers_stay_non_negative(self.layers[: one.after]))
            for one in self.read_outs
        )

    def operation_settings(self) -> dict[str, object]:
        """See `clicooper_hpc.fronts.operations.Operation`."""
        settings: dict[str, object] = {
            "stage": "network",
            "layers": layers_to_objects(self.layers),
            "shape": list(self.shape),
            "mean": list(self.mean),
            "std": list(self.std),
        }
        # Only where there are any: the digest of a front without them is what it always was.
        if self.read_outs:
            settings["read_outs"] = [str(one) for one in self.read_outs]
        if self.mirror:
            settings["mirror"] = True
        return settings

    def operation_tensors(self) -> dict[str, Tensor]:
        """See `clicooper_hpc.fronts.operations.Operation`."""
        return dict(self.weights)

    def apply(self, x: Tensor) -> Tensor:
        """See `clicooper_hpc.fronts.operations.Operation`."""
        rest = (1,) * (len(self.shape) - 1)
        mean, std = (
            torch.tensor(values, dtype=torch.float32, device=x.device).reshape(1, -1, *rest)
            for values in (self.mean, self.std)
        )
        images = (x.reshape(-1, *self.shape) - mean) / std
        y = self._read(images)
        if self.mirror:
            # A sum of two and a half are the same in either order: an image and its mirror image
            # get the same bits.
            y = (y + self._read(images.flip(-1))) / 2
        # The clamp changes no value; it makes the claim hold whatever a kernel does.
        return y.clamp(min=0.0) if self.non_negative(False) else y

    @property
    def module(self) -> nn.Sequential:
        """The layers, filled with the weights."""
        return self._module

    def largest_row(self) -> int:
        """Return the most numbers that a row has before, between or behind the layers."""
        shapes = trace_layer_shapes(self.layers, self.shape, where="front")
        return max(math.prod(shape) for shape in (self.shape, *shapes))

    def _memory_format(self) -> torch.memory_format:
        # Depthwise convolutions run twice as fast on maps whose channels lie side by side.
        depthwise = any(dict(layer.settings).get("groups", 1) > 1 for layer in _convolutions(self))
        return torch.channels_last if depthwise else torch.contiguous_format

    def _read(self, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=self._memory_format())
        if not self.read_outs:
            whole: Tensor = self._module(images)
            return whole
        outputs: dict[int, Tensor] = {}
        wanted = {one.after for one in self.read_outs}
        for index, layer in enumerate(self._module, start=1):
            images = layer(images)
            if index in wanted:
                outputs[index] = images
        return torch.cat([pool_read_out(one, outputs[one.after]) for one in self.read_outs], dim=1)


def _convolutions(network: Network) -> list[Layer]:
    return [layer for layer in walk_layers(network.layers) if layer.type == "Conv2d"]
