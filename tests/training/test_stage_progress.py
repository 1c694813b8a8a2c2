"""Progress of an unfinished stage, as a checkpoint stores it."""

from __future__ import annotations

import pytest
from safetensors.torch import load, save

from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.training.message_digests import CHANNELS, ChannelRecord
from clicooper_hpc.training.stage_progress import StageProgress

PROGRESS = StageProgress(
    samples=12,
    records={
        channel: ChannelRecord(
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


def test_progress_survives_the_disk_with_the_same_roots() -> None:
    tensors, texts = PROGRESS.pack_progress()
    back = StageProgress.unpack_progress(load(save(tensors)), texts, where="file")
    assert back == PROGRESS
    for channel in CHANNELS:
        assert back.records[channel].flow() == PROGRESS.records[channel].flow()


@pytest.mark.parametrize("lost", ["forward_in/digests", "backward_out/bytes", "samples", "weights"])
def test_a_part_that_is_missing_is_an_error_that_names_the_file(lost: str) -> None:
    tensors, texts = PROGRESS.pack_progress()
    tensors.pop(lost, None)
    texts.pop(lost, None)
    with pytest.raises(RunFolderError, match="progress of a stage") as caught:
        StageProgress.unpack_progress(tensors, texts, where="some file")
    assert caught.value.where == "some file"
