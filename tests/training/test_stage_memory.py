"""What a checkpoint holds of a stage that goes on."""

from __future__ import annotations

import pytest
from safetensors.torch import load, save

from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.training.message_digests import CHANNELS, Record
from clicooper_hpc.training.stage_progress import StageProgress

MEMORY = StageProgress(
    samples=12,
    records={
        channel: Record(
            digests=[bytes([number]) * 32 for number in range(count)],
            places=[(number, 1) for number in range(count)],
            size=100 * count,
        )
        for count, channel in enumerate(CHANNELS)
    },
    started="2026-01-01T00:00:00+00:00",
    weights="aa",
    training="bb",
)


def test_memory_survives_the_disk_and_goes_on_to_the_same_root() -> None:
    tensors, texts = MEMORY.pack()
    back = StageProgress.unpack(load(save(tensors)), texts, where="file")
    assert back == MEMORY
    for channel in CHANNELS:
        assert back.records[channel].flow() == MEMORY.records[channel].flow()


@pytest.mark.parametrize("lost", ["forward_in/digests", "backward_out/bytes", "samples", "weights"])
def test_a_part_that_is_missing_is_an_error_that_names_the_file(lost: str) -> None:
    tensors, texts = MEMORY.pack()
    tensors.pop(lost, None)
    texts.pop(lost, None)
    with pytest.raises(RunFolderError, match="what a rank remembers") as caught:
        StageProgress.unpack(tensors, texts, where="some file")
    assert caught.value.where == "some file"
