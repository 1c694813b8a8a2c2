"""What a rank says of its checkpoint files is taken as it is, or refused with the rank named."""

from __future__ import annotations

import json

import pytest

from clicooper_hpc.errors import PeerError
from clicooper_hpc.runstore.checkpoints import rank_checkpoint_name
from clicooper_hpc.training.checkpoint_writer import _parse_checkpoint_digests

NAME = rank_checkpoint_name(1)
DIGEST = "0f" * 32


def test_sizes_and_digests_are_returned() -> None:
    found = _parse_checkpoint_digests(json.dumps({NAME: [7, DIGEST]}).encode(), 1, [1])
    assert {name: (one.size, one.sha256) for name, one in found.items()} == {NAME: (7, DIGEST)}


@pytest.mark.parametrize(
    "size", ["Infinity", "-Infinity", "NaN", "1e400", "7.0", '"7"', "true", "null", "[7]", "-1"]
)
def test_no_number_is_made_of_something_else(size: str) -> None:
    with pytest.raises(PeerError, match="checkpoint message from rank 1"):
        _parse_checkpoint_digests(f'{{"{NAME}": [{size}, "{DIGEST}"]}}'.encode(), 1, [1])


@pytest.mark.parametrize("sha256", ["7", "null", f'["{DIGEST}"]', f'"{DIGEST.upper()}"', '"'])
def test_a_digest_is_64_small_hex_digits(sha256: str) -> None:
    with pytest.raises(PeerError, match="checkpoint message from rank 1"):
        _parse_checkpoint_digests(f'{{"{NAME}": [7, {sha256}]}}'.encode(), 1, [1])
