from __future__ import annotations

import numpy as np
import pytest

from clicooper_hpc.errors import BudgetExceededError, ExitCode
from clicooper_hpc.privacy.receipts import ReleaseChangedError, ReleaseReceipts

KEY = bytes(range(32))
ROWS = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
LABELS = np.array([0, 1, 2, 3], dtype=np.int32)


def test_new_samples_are_counted_once_and_repeats_are_free() -> None:
    receipts = ReleaseReceipts(10, KEY)
    assert receipts.count_without_receipt(np.array([1, 2, 2])) == 2
    assert receipts.add_receipts(np.array([1, 2]), ROWS[:2], LABELS[:2]) == 2
    assert receipts.add_receipts(np.array([2, 3]), ROWS[1:3], LABELS[1:3]) == 1
    assert receipts.add_receipts(np.array([3, 1]), ROWS[[2, 0]], LABELS[[2, 0]]) == 0
    assert receipts.released == 3


@pytest.mark.parametrize("change", ["row", "label", "no label", "swap", "signed zero"])
def test_other_bytes_for_a_released_sample_are_refused(change: str) -> None:
    receipts = ReleaseReceipts(10, KEY)
    ids, rows, labels = np.array([4, 5]), ROWS[:2].copy(), LABELS[:2].copy()
    receipts.add_receipts(ids, rows, labels)
    before = receipts.to_bytes()
    sent: np.ndarray | None = labels
    if change == "row":
        rows[1, 2, 1] = np.nextafter(rows[1, 2, 1], np.float32(np.inf))
    elif change == "label":
        labels[1] = 7
    elif change == "no label":
        sent = None
    elif change == "signed zero":
        rows[0, 0, 0] = -0.0
    else:
        ids = ids[::-1].copy()
    with pytest.raises(ReleaseChangedError, match=r"sample \d: .*Nothing was sent") as error:
        receipts.add_receipts(
            np.append(ids, 6),
            np.concatenate([rows, ROWS[2:3]]),
            None if sent is None else np.append(sent, np.int32(2)),
        )
    assert isinstance(error.value, BudgetExceededError)
    assert error.value.exit_code == ExitCode.BUDGET
    assert receipts.to_bytes() == before


def test_a_sample_twice_in_one_batch_must_agree_with_itself() -> None:
    receipts = ReleaseReceipts(10, KEY)
    same = ROWS[[0, 0]]
    assert receipts.add_receipts(np.array([1, 1]), same, LABELS[[0, 0]]) == 1
    with pytest.raises(ReleaseChangedError):
        receipts.add_receipts(np.array([2, 2]), ROWS[:2], LABELS[[0, 0]])
    assert receipts.released == 1


def test_state_survives_storage_and_nothing_else_passes_for_it() -> None:
    receipts = ReleaseReceipts(11, KEY)
    receipts.add_receipts(np.array([10, 3]), ROWS[:2], None)
    stored = receipts.to_bytes()
    again = ReleaseReceipts.from_bytes(stored, KEY)
    assert again.to_bytes() == stored
    assert again.add_receipts(np.array([3, 0]), ROWS[1:3], None) == 1
    with pytest.raises(ReleaseChangedError):
        again.add_receipts(np.array([10]), ROWS[1:2], None)
    damaged = bytearray(stored)
    damaged[40] ^= 1
    for bytes_, key in ((bytes(damaged), KEY), (stored, bytes(32)), (b"", KEY)):
        with pytest.raises(ValueError, match="not the release receipts"):
            ReleaseReceipts.from_bytes(bytes_, key)


def test_the_key_is_not_printed_and_hashes_depend_on_it() -> None:
    one, two = ReleaseReceipts(4, KEY), ReleaseReceipts(4, bytes(32))
    for receipts in (one, two):
        receipts.add_receipts(np.arange(4), ROWS, LABELS)
    assert one.to_bytes() != two.to_bytes()
    assert KEY.hex() not in repr(one)


def test_misuse_is_a_programming_error() -> None:
    receipts = ReleaseReceipts(4, KEY)
    with pytest.raises(ValueError, match=r"\[0, 4\)"):
        receipts.add_receipts(np.array([4]), ROWS[:1], LABELS[:1])
    with pytest.raises(ValueError, match="equally many"):
        receipts.add_receipts(np.array([1]), ROWS[:2], LABELS[:2])
    with pytest.raises(ValueError, match="float32"):
        receipts.add_receipts(np.array([1]), ROWS[:1].astype(np.float64), LABELS[:1])
