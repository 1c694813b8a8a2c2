"""Send tensors from a CUDA device to this same rank and back to the device."""

from __future__ import annotations

import torch

from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.mpi_library import start_mpi

with start_mpi() as world:
    device = torch.device("cuda", world.local_rank % torch.cuda.device_count())
    receiver = world.open_receiver(
        "forward", world.rank, capacity_bytes=2**22, slots=2, deadline_s=60.0, pinned=True
    )
    sender = world.open_sender(
        "forward", world.rank, capacity_bytes=2**22, slots=2, deadline_s=60.0, pinned=True
    )
    for step in range(20):
        tensor = torch.randn(1024, 1024, device=device, dtype=torch.bfloat16) @ torch.randn(
            1024, 1024, device=device, dtype=torch.bfloat16
        )
        sender.send(tensor.t(), Kind.ACTIVATION, step, 0)
        expected = tensor.t().clone()
        tensor.zero_()
        message = receiver.receive(Kind.ACTIVATION, step, 0)
        moved = message.tensor_on(device)
        message.tensor.zero_()
        assert moved.device == device
        assert torch.equal(moved, expected)
        receiver.recycle(message)
print("same")
