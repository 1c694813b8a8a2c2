"""An operation of a front that changes neither shapes nor what is stored, for tests to build on."""

from __future__ import annotations

import torch


class PlainOperation:
    """Everything of an operation but `apply`."""

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        return input_shape

    def non_negative(self, before: bool) -> bool:
        return before

    def operation_settings(self) -> dict[str, object]:
        return {"stage": "test"}

    def operation_tensors(self) -> dict[str, torch.Tensor]:
        return {}
