from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain, repeat

import mpmath
import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import special
from scipy.stats import chisquare, kstest, norm

from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.errors import EnvironmentUnfitError
from clicooper_hpc.privacy import rounded_gaussian as module
from clicooper_hpc.privacy.keyed_stream import KeyedStream, keyed_rejection_below, keyed_words_below
from clicooper_hpc.privacy.master_key import INSECURE, MasterKey
from clicooper_hpc.privacy.noise import NoiseStream, ReleaseContext
from clicooper_hpc.privacy.release_spec import solve_release_spec
from clicooper_hpc.privacy.rounded_gaussian import RoundedGaussian
from clicooper_hpc.privacy.sensitivity import Guarantee

FRONT, DATA = digest_bytes("front", b"f"), digest_bytes("data", b"d")
KEY = MasterKey.from_seed(7)


def context(split: str = "train", dimension: int = 16, epsilon: float = 2.0) -> ReleaseContext:
    guarantee = Guarantee("sample", "replace-one", 1.0, dimension, epsilon, 1e-5)
    return ReleaseContext(split, FRONT, DATA, solve_release_spec(guarantee))


def no_more(position: int) -> Iterator[int]:
    raise AssertionError(f"number {position} was not decided by its first word")


def take(words: Iterator[int], position: int) -> Iterator[int]:
    return words


def random_words(count: int, seed: int) -> np.ndarray:
    return KeyedStream(seed.to_bytes(32, "big")).draw_words(np.arange(count // 64), 64).reshape(-1)


@pytest.mark.parametrize("s", [0.5, 0.8, 3.3, 20.0])
def test_frequencies_are_those_of_the_rounded_gaussian(s: float) -> None:
    sampler = RoundedGaussian(s)
    drawn = sampler.sample_rounded_gaussian(random_words(400_000, 11), no_more)
    reach = int(np.ceil(3 * s))
    inside = np.arange(-reach, reach + 1)
    expected = sampler.rounded_gaussian_probability(inside)
    counts = np.array([np.count_nonzero(drawn == k) for k in inside])
    rest = drawn.size - counts.sum()
    statistic = chisquare(
        np.append(counts, rest), drawn.size * np.append(expected, 1 - expected.sum())
    )
    assert statistic.pvalue > 1e-4


def test_wide_noise_passes_kolmogorov_smirnov() -> None:
    s = 4083.3
    drawn = RoundedGaussian(s).sample_rounded_gaussian(random_words(200_000, 12), no_more)
    # Jitter inside each integer's cell makes the law continuous; its error is of order 1/s.
    jitter = np.random.default_rng(0).uniform(-0.5, 0.5, drawn.size)
    assert kstest((drawn + jitter) / s, norm.cdf).pvalue > 1e-4


def test_probabilities_add_up_and_match_the_exact_ones() -> None:
    sampler = RoundedGaussian(3.7)
    assert sampler.rounded_gaussian_probability(np.arange(-80, 81)).sum() == pytest.approx(
        1, abs=1e-14
    )
    with mpmath.workdps(40):
        for k in (0, 1, 5, 30):
            exact = mpmath.ncdf((k + 0.5) / mpmath.mpf(3.7)) - mpmath.ncdf(
                (k - 0.5) / mpmath.mpf(3.7)
            )
            assert sampler.rounded_gaussian_probability(np.array([k, -k])) == pytest.approx(
                float(exact), rel=1e-9
            )


@settings(max_examples=60, deadline=None)
@example(806.0, 2**64 - 2, 2**64 - 730)
@example(64.0, 2**64 - 1, 2**64 - 1)
@given(st.floats(0.5, 5000), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_inversion_is_exact(s: float, word: int, further: int) -> None:
    """R is the value whose interval of the exact distribution holds U; checked in 400 bits."""
    sampler = RoundedGaussian(s)
    words = np.array([word], dtype=np.uint64)
    drawn = int(
        sampler.sample_rounded_gaussian(words, partial(take, chain([further], repeat(0))))[0]
    )
    with mpmath.workprec(400):
        uniform = (mpmath.mpf(word >> 1) + mpmath.mpf(further) / 2**64) / 2**63
        scale = mpmath.mpf(s) * mpmath.sqrt(2)
        k = abs(drawn)
        assert uniform < mpmath.erf((k + mpmath.mpf("0.5")) / scale)
        assert k == 0 or uniform >= mpmath.erf((k - mpmath.mpf("0.5")) / scale)
    assert drawn == 0 or (drawn < 0) == bool(word & 1)


@pytest.mark.parametrize("s", [64.0, 777.7])
@pytest.mark.parametrize("k", [0, 1, 100, 500])
def test_a_first_word_on_a_threshold_is_settled_by_the_next(s: float, k: int) -> None:
    with mpmath.workprec(400):
        scaled = mpmath.erf((k + mpmath.mpf("0.5")) / (mpmath.mpf(s) * mpmath.sqrt(2))) * 2**127
        first, second = divmod(int(mpmath.floor(scaled)), 2**64)
    sampler, word = RoundedGaussian(s), np.array([first << 1], dtype=np.uint64)
    assert sampler.sample_rounded_gaussian(word, lambda _: iter([second - 1])).tolist() == [k]
    assert sampler.sample_rounded_gaussian(word, lambda _: iter([second + 1])).tolist() == [k + 1]


def test_the_tail_is_not_cut() -> None:
    sampler = RoundedGaussian(64.0)
    last = np.array([2**64 - 2], dtype=np.uint64)
    for ones, reach in ((0, 9.13), (1, 13.0), (3, 18.5)):
        further = chain(repeat(2**64 - 1, ones), repeat(0))
        drawn = int(sampler.sample_rounded_gaussian(last, partial(take, further))[0])
        bits = 63 + 64 * ones
        with mpmath.workprec(600):
            outside = mpmath.erfc((drawn - mpmath.mpf("0.5")) / (64 * mpmath.sqrt(2)))
            assert outside >= mpmath.mpf(2) ** -bits
        assert drawn == pytest.approx(reach * 64, rel=0.02)


def test_a_broken_error_function_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    true = special.erfc
    monkeypatch.setattr(module, "erfc", lambda x: true(x) * (1 + 2.0**-40))
    with pytest.raises(EnvironmentUnfitError, match="error function"):
        RoundedGaussian(100.0)


def test_any_sample_is_had_again_in_any_order_and_batch() -> None:
    stream = NoiseStream(KEY, context())
    ids = np.random.default_rng(1).permutation(300)
    whole = stream.draw_noise(ids)
    fresh = NoiseStream(KEY, context())
    assert np.array_equal(
        np.concatenate([fresh.draw_noise(part) for part in np.split(ids, 10)]), whole
    )
    assert np.array_equal(fresh.draw_noise(np.arange(300))[ids], whole)
    assert np.array_equal(fresh.draw_noise(np.array([5, 5]))[0], fresh.draw_noise(np.array([5]))[0])
    assert whole.dtype == np.int32


def test_large_batches_are_cut_into_chunks_without_a_trace() -> None:
    stream = NoiseStream(KEY, context(dimension=1024))
    ids = np.arange(300)
    assert np.array_equal(stream.draw_noise(ids)[250:], stream.draw_noise(ids[250:]))


def test_the_bits_of_a_release_are_fixed_for_good() -> None:
    """A resumed run must send the same bits as the version that began it."""
    rows = NoiseStream(KEY, context()).draw_noise(np.array([0, 1, 2**40]))
    assert rows[:, :4].tolist() == [
        [-1255, -7583, 2872, 4163],
        [-1993, -1286, -3464, -6466],
        [5572, -959, -2744, 2554],
    ]


def test_noise_of_another_context_is_independent() -> None:
    ids = np.arange(2000)
    base = NoiseStream(KEY, context()).draw_noise(ids).astype(float).ravel()
    others = [
        NoiseStream(KEY, context(split="validation")),
        NoiseStream(KEY, context(epsilon=2.000001)),
        NoiseStream(KEY, ReleaseContext("train", DATA, DATA, context().spec)),
        NoiseStream(KEY, ReleaseContext("train", FRONT, FRONT, context().spec)),
        NoiseStream(MasterKey.from_seed(8), context()),
    ]
    for other in others:
        noise = other.draw_noise(ids).astype(float).ravel()
        # 32,000 pairs: the correlation of independent noise has standard deviation 0.0056.
        assert abs(np.corrcoef(base, noise)[0, 1]) < 0.03


def test_neighbouring_samples_and_coordinates_are_independent() -> None:
    noise = NoiseStream(KEY, context()).draw_noise(np.arange(4000)).astype(float)
    assert abs(np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1]) < 0.03
    assert abs(np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]) < 0.03


def test_noise_has_the_standard_deviation_of_the_claim() -> None:
    spec = context().spec
    noise = NoiseStream(KEY, context()).draw_noise(np.arange(20_000))
    assert np.std(noise) * spec.grid == pytest.approx(3.987625, rel=5e-3)


def test_words_are_plain_chacha20() -> None:
    key = bytes(range(32))
    nonce = bytes(4) + b"base" + (258).to_bytes(8, "little")
    expected = Cipher(ChaCha20(key, nonce), None).encryptor().update(bytes(24))
    words = KeyedStream(key).draw_words(np.array([258]), 3)
    assert words.astype("<u8").tobytes() == expected


def test_further_words_of_neighbouring_positions_do_not_overlap() -> None:
    stream = KeyedStream(bytes(32))
    first, second = set(stream.draw_more_words(3, 0)), set(stream.draw_more_words(3, 1))
    assert len(first) == len(second) == 128
    assert not first & second
    assert not first & set(stream.draw_words(np.array([3]), 64)[0].tolist())


def test_bounded_integers_reject_the_uneven_rest() -> None:
    assert keyed_rejection_below(iter([2**64 - 1, 5]), 3) == 2  # 2^64 = 1 mod 3: the last is uneven
    assert keyed_rejection_below(iter([2**64 - 2]), 3) == (2**64 - 2) % 3
    with pytest.raises(ValueError, match="bound"):
        keyed_rejection_below(iter([1]), 0)
    drawn = keyed_words_below(KeyedStream(bytes(32)), np.arange(30_000), 7)
    assert chisquare(np.bincount(drawn, minlength=7)).pvalue > 1e-4


def test_a_word_in_the_uneven_rest_is_drawn_again() -> None:
    stream, bound = KeyedStream(bytes(32)), 2**62 + 1  # a quarter of all words is rejected
    ids = np.arange(400)
    drawn = keyed_words_below(stream, ids, bound)
    words = stream.draw_words(ids, 1)[:, 0]
    rejected = words >= np.uint64(2**64 - 2**64 % bound)
    assert 50 < rejected.sum() < 150
    assert np.all(drawn[~rejected] == (words % np.uint64(bound))[~rejected])
    for i in np.flatnonzero(rejected)[:20]:
        assert drawn[i] == keyed_rejection_below(stream.draw_more_words(int(i), 0), bound)
    assert drawn.max() < bound


def test_secrets_are_never_printed() -> None:
    key = MasterKey.generate()
    shown = repr(key) + repr(NoiseStream(key, context())) + repr(KeyedStream(key.secret))
    assert key.secret.hex() not in shown
    assert repr(key.secret) not in shown


def test_seeded_keys_are_branded() -> None:
    assert KEY.mode == INSECURE
    assert NoiseStream(KEY, context()).mode == INSECURE
    assert MasterKey.generate().mode == "secure"
    assert MasterKey.generate() != MasterKey.generate()
    for key in (KEY, MasterKey.generate()):
        assert MasterKey.from_private_bytes(key.to_private_bytes()) == key
    with pytest.raises(ValueError, match="not a master key"):
        MasterKey.from_private_bytes(b"x" * 40)


def test_negative_ids_are_refused() -> None:
    with pytest.raises(ValueError, match="sample ids"):
        NoiseStream(KEY, context()).draw_noise(np.array([-1]))
