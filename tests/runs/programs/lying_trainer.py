"""lying_trainer.py RANK WHAT STEP LIE -- ARGUMENTS...: the command line, with one rank that lies.

From step STEP on rank RANK puts LIE (``nan``, ``inf``, ``-inf``) into one number of every message
of kind WHAT (``ACTIVATION``, ``GRADIENT``, ``NORM``, ``METRICS``, ``LOGITS``, ``RELEASE``), or of
its delivery (``SEGMENT``), its checkpoints and then its gradients (``CHECKPOINT``), or its measured
costs (``COSTS``). LIE
``row`` leaves out the last row of such a message, ``bfloat16`` sends other numbers than agreed.
Its own state, its digests and its proofs are honest in all else.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor

from clicooper_hpc.cli import main
from clicooper_hpc.pipeline import layout
from clicooper_hpc.run import network
from clicooper_hpc.trainer import loop
from clicooper_hpc.training.checkpoint_writer import CheckpointWriter
from clicooper_hpc.transport.header import Header
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.sender import Sender
from clicooper_hpc.transport.slot import Slot
from clicooper_hpc.transport.wire_dtype import torch_dtype_of

RANK, WHAT, STEP, LIE = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
sys.argv[1:] = sys.argv[6:]
#: A segment is sent as bytes, so its lie is put in before (`deliver`).
KIND = {"CHECKPOINT": "GRADIENT", "SEGMENT": ""}.get(WHAT, WHAT)
honest_check, honest_send = Sender._check_finite, Sender.send
honest_save, honest_costs = CheckpointWriter.save_checkpoint, layout.measured_layout_costs


def lies() -> bool:
    return bool(sys.modules["mpi4py.MPI"].COMM_WORLD.Get_rank() == RANK)


def poisoned(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    copies = {name: value.clone() for name, value in state.items()}
    next(iter(copies.values())).view(-1)[0] = float(LIE)
    return copies


def check_finite(self: Sender, slot: Slot, header: Header) -> None:
    """Put the lie in where an honest rank looks for it: before it is digested and sent."""
    if lies() and header.kind.name == KIND and header.step >= STEP and LIE.endswith(("nan", "inf")):
        payload = slot.payload_view(torch_dtype_of(header.dtype), header.shape)
        payload.view(-1)[0] = float(LIE)
    else:
        honest_check(self, slot, header)


def send(
    self: Sender, tensor: Tensor, kind: Kind, step: int, micro_batch: int, *, blob_bytes: int = 0
) -> None:
    if lies() and kind.name == WHAT and step >= STEP and LIE in ("row", "bfloat16"):
        tensor = tensor[:-1] if LIE == "row" else tensor.bfloat16()
    honest_send(self, tensor, kind, step, micro_batch, blob_bytes=blob_bytes)


def deliver(tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    return save(poisoned(tensors) if lies() else tensors, metadata)


def save_checkpoint(self: CheckpointWriter, step: int, files: Mapping[str, bytes]) -> None:
    if lies() and step >= STEP:
        files = {
            name: save(poisoned(load(content))) if name.startswith("segment") else content
            for name, content in files.items()
        }
    honest_save(self, step, files)


def costs(*words: Any, **named: Any) -> NDArray[np.float64]:
    measured = honest_costs(*words, **named)
    if lies():
        measured[1] = float(LIE)
    return measured


Sender._check_finite, Sender.send = check_finite, send  # type: ignore[method-assign]
if WHAT == "SEGMENT":
    loop.save = deliver  # type: ignore[attr-defined]
if WHAT == "CHECKPOINT":
    CheckpointWriter.save_checkpoint = save_checkpoint  # type: ignore[method-assign]
if WHAT == "COSTS":
    network.measured_layout_costs = costs  # type: ignore[attr-defined]
sys.exit(main())
