"""How values of a sweep are written, combined and named."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clicooper_hpc.config.toml_text import format_toml_value, parse_toml_value
from clicooper_hpc.errors import UsageError
from clicooper_hpc.sweep.grid import combine_settings, split_values


def overrides(*texts: str, seeds: int | None = None) -> list[tuple[str, ...]]:
    return [one.overrides for one in combine_settings(texts, seeds)]


def test_commas_part_values_but_not_within_brackets_and_quotes() -> None:
    assert overrides("front.read_outs=['51:mean','51:max']") == [
        ('front.read_outs=["51:mean", "51:max"]',)
    ]
    assert overrides('front.read_outs=["51:mean"],["51:max"]') == [
        ('front.read_outs=["51:mean"]',),
        ('front.read_outs=["51:max"]',),
    ]
    assert overrides(r'a.b="x,\"]",plain,{c = [1,2]}') == [
        (r'a.b="x,\"]"',),
        ('a.b="plain"',),
        ('a.b={"c" = [1, 2]}',),
    ]


def test_all_combinations_with_seeds_next_to_each_other() -> None:
    made = combine_settings(["training.seed=7,9", "privacy.epsilon=2,8"], None)
    assert [one.name for one in made] == [
        "epsilon-2_seed-7",
        "epsilon-2_seed-9",
        "epsilon-8_seed-7",
        "epsilon-8_seed-9",
    ]
    assert len({one.group for one in made}) == 2
    assert overrides(seeds=2) == [("training.seed=0",), ("training.seed=1",)]


def test_names_are_file_names_and_stay_when_values_are_added() -> None:
    few = combine_settings(['a.x="../..","a/b"'], None)
    more = combine_settings(['a.x=1,"a/b","../.."," "'], None)
    assert {one.name for one in few} < {one.name for one in more}
    assert len({one.name for one in more}) == 4
    long = combine_settings([f'a.{"k" * 90}="{"é" * 300}"', "b.k=1"], None)[0].name
    for name in [long, *(one.name for one in more)]:
        assert name.isascii()
        assert "/" not in name
        assert len(name) <= 120
    # Two keys with one last part are told apart.
    assert combine_settings(["a.k=1", "b.k=2"], None)[0].name == "a.k-1_b.k-2"


@pytest.mark.parametrize(
    ("texts", "seeds", "said"),
    [
        ([], None, "nothing to vary"),
        (["epsilon=1"], None, "not of the form"),
        (["privacy.epsilon"], None, "not of the form"),
        (["a.b=1,,2"], None, "a value is empty"),
        (["a.b=1,"], None, "a value is empty"),
        (["a.b=[1,2"], None, r"\] is missing at the end"),
        (['a.b="x,y'], None, '" is missing at the end'),
        (["a.b=0.10,0.1"], None, "0.1 is given twice"),
        (["a.b=1", "a.b=2"], None, "is given 2 times"),
        (["training.seed=1"], 3, "given by both"),
        ([], 0, "no number of seeds"),
        (["a.b=2020-01-01"], None, "no value of a job"),
        ([f"a.{key}={','.join(map(str, range(40)))}" for key in "bc"], None, "at most 1000"),
        ([], 10**9, "at most 1000"),
    ],
)
def test_what_is_no_sweep_is_refused(texts: list[str], seeds: int | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        combine_settings(texts, seeds)


VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab-é", min_size=1), inner),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(VALUES, min_size=1, max_size=4))
def test_values_survive_being_written_joined_split_and_read(values: list[object]) -> None:
    texts = [format_toml_value(value, where="here") for value in values]
    parts = split_values(",".join(texts), where="here")
    assert [parse_toml_value(part, where="here") for part in parts] == values
