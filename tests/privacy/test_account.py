"""The privacy account: what adds up, what is refused, and what a damaged or torn file says."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from clicooper_hpc.errors import BudgetExceededError
from clicooper_hpc.privacy.account import (
    AccountEntry,
    AccountLimit,
    PrivacyAccount,
    parse_account,
    remaining_epsilon,
)
from clicooper_hpc.privacy.accounting import Charge
from clicooper_hpc.privacy.gaussian_mechanism import gaussian_epsilon, gaussian_sigma

DELTA = 1e-5
LIMIT = AccountLimit(12.0, DELTA, "replace-one")
#: mu of one release of epsilon 8 at delta 1e-5 between two samples.
MU = 2.0 / gaussian_sigma(8.0, DELTA, 2.0)


def entry(run: str, mu: float = MU, samples: str = "aa", **more: object) -> AccountEntry:
    values = {
        "run": run,
        "samples": samples,
        "replace_one": Charge(mu=mu),
        "absent": Charge(mu=mu / 2, relation="zero-out"),
        "delta": DELTA,
        "limit": LIMIT,
        "time": "2026-12-01T00:00:00+00:00",
        "folder": "/runs/\x1b[2J\u00e4",
        "data": "digits",
        "mode": "rows",
        "count": 9,
    }
    return AccountEntry(**{**values, **more})  # type: ignore[arg-type]


def written(*entries: AccountEntry) -> bytes:
    content = b""
    for one in entries:
        content += parse_account(content).encode_entry(one)
    return content


THREE = (entry("a"), entry("b", MU / 2), entry("c", samples="bb"))


def test_what_was_written_reads_back_and_adds_up_by_fingerprint() -> None:
    account = parse_account(written(*THREE))
    assert account.entries == THREE
    assert account.find_entry("b") == THREE[1]
    assert account.find_entry("d") is None
    assert account.entries_of("bb") == [THREE[2]]
    assert account.torn_bytes == 0
    # Exactly one Gaussian mechanism of the root of the sum of squares, under either relation.
    together = math.hypot(MU, MU / 2)
    assert account.spent("aa", DELTA, "replace-one") == gaussian_epsilon(1.0, DELTA, together)
    without = math.hypot(MU / 2, MU / 4)
    assert account.spent("aa", DELTA, "zero-out") == gaussian_epsilon(1.0, DELTA, without)
    assert account.spent("cc", DELTA, "replace-one") == 0.0
    assert parse_account(b"") == PrivacyAccount()


def test_parts_that_are_not_gaussian_are_added() -> None:
    more = entry("d", replace_one=Charge(mu=MU, epsilon=1.5, delta=DELTA / 4))
    account = parse_account(written(entry("a"), more))
    mu = math.hypot(MU, MU)
    expected = gaussian_epsilon(1.0, DELTA - DELTA / 4, mu) + 1.5
    assert account.spent("aa", DELTA, "replace-one") == expected
    # Two such deltas fill the total: whatever is left then promises nothing.
    assert account.spent("aa", DELTA / 4, "replace-one") == math.inf


def test_the_run_that_would_exceed_the_limit_is_refused_and_told_what_is_left() -> None:
    account = parse_account(written(entry("a")))
    with pytest.raises(
        BudgetExceededError, match=r"spent so far 8, left for one release 7\.67"
    ) as e:
        account.check_entry(entry("b"))
    assert e.value.exit_code == 3
    left = remaining_epsilon([entry("a").replace_one], LIMIT)
    fits = 2.0 / gaussian_sigma(left * (1 - 1e-9), DELTA, 2.0)
    account.check_entry(entry("b", fits))
    with pytest.raises(BudgetExceededError):
        account.check_entry(entry("b", 2.0 / gaussian_sigma(left * 1.001, DELTA, 2.0)))
    # Another limit, other samples, another relation.
    account.check_entry(entry("b", limit=replace(LIMIT, epsilon=12.3)))
    account.check_entry(entry("b", samples="bb"))
    account.check_entry(entry("b", limit=replace(LIMIT, relation="zero-out")))
    with pytest.raises(BudgetExceededError, match="inf"):
        account.check_entry(entry("b", replace_one=Charge.unbounded()))


def test_one_run_may_use_the_whole_limit_and_leaves_nothing() -> None:
    limit = AccountLimit(8.0, DELTA, "replace-one")
    PrivacyAccount().check_entry(entry("a", limit=limit))
    assert remaining_epsilon([], limit) == pytest.approx(8.0)
    assert remaining_epsilon([entry("a").replace_one], limit) < 1e-3
    assert remaining_epsilon([Charge.pure(9.0)], limit) == 0.0
    assert remaining_epsilon([Charge.unbounded()], limit) == 0.0


def test_a_line_torn_anywhere_loses_none_before_it() -> None:
    content = written(*THREE)
    last = content.rindex(b"\n", 0, -1) + 1
    for end in range(last, len(content) - 1):
        for tail in (b"", b"\0" * 7):
            account = parse_account(content[:end] + tail)
            assert account.entries == THREE[:2]
            assert account.whole_bytes == last
            assert account.torn_bytes == end - last + len(tail)
            # The next writer goes on behind what is whole.
            again = content[: account.whole_bytes] + account.encode_entry(THREE[2])
            assert again == content
    # All but the line break is there: it may have been paid for, so it counts.
    account = parse_account(content[:-1])
    assert account.entries == THREE
    assert account.torn_bytes == 0
    longer = content[: account.whole_bytes] + account.encode_entry(entry("d"))
    assert [one.run for one in parse_account(longer).entries] == ["a", "b", "c", "d"]


def test_every_changed_byte_is_found() -> None:
    content = written(*THREE)
    for place in range(0, len(content) - 1, 3):
        changed = bytearray(content)
        changed[place] ^= 1
        try:
            entries = parse_account(bytes(changed)).entries
        except ValueError:
            continue
        pytest.fail(f"byte {place} was changed, and {len(entries)} entries were read")


def test_a_line_taken_out_moved_or_doubled_is_found() -> None:
    a, b, c = written(*THREE).splitlines(keepends=True)
    for lines in ([b, c], [a, c], [b, a, c], [a, b, b], [a, b"\n", b], [a, c, b]):
        with pytest.raises(ValueError, match="line"):
            parse_account(b"".join(lines))
    # The last lines alone can go unseen: who writes the file can shorten it (docs/privacy.md).
    assert parse_account(a + b).entries == THREE[:2]


@pytest.mark.parametrize(
    "foreign",
    [
        b"notes",
        b"notes\n",
        b"\x89HDF\r\n\x1a\n",
        b"{}\n",
        b"\n",
        b'{"format":"clicooper privacy account 2"}\n',
        b'{"format":"clicooper privacy account 1","previous":1}\n',
        b'{"format":"clicooper privacy account 1",' + b"[" * 100_000 + b"\n",
    ],
)
def test_another_file_is_never_taken_for_an_account(foreign: bytes) -> None:
    with pytest.raises(ValueError, match="line 1"):
        parse_account(foreign)


def test_a_signed_off_number_spelt_otherwise_is_a_change() -> None:
    line = written(entry("a")).decode()
    stored = json.loads(line)
    assert float(stored["replace_one"]["mu"]) == MU
    with pytest.raises(ValueError, match="changed after"):
        parse_account(line.replace(repr(MU), f"{MU!r}0").encode())
