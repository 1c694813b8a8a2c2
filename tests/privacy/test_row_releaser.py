from __future__ import annotations

import numpy as np
import pytest

from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.errors import DataError
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.noise import NoiseStream, ReleaseContext
from clicooper_hpc.privacy.release_spec import solve_release_spec
from clicooper_hpc.privacy.row_releaser import GaussianReleaser, PlainReleaser, RowReleaser
from clicooper_hpc.privacy.sensitivity import Guarantee, Unit

FRONT, DATA = digest_bytes("front", b"f"), digest_bytes("data", b"d")


def releaser(dimension: int = 24, unit: Unit = "sample", epsilon: float = 2.0) -> GaussianReleaser:
    distance = 0.25 if unit == "metric" else None
    guarantee = Guarantee(unit, "replace-one", 1.0, dimension, epsilon, 1e-5, False, distance)
    spec = solve_release_spec(guarantee)
    key = MasterKey.from_seed(3)
    return GaussianReleaser(spec, NoiseStream(key, ReleaseContext("train", FRONT, DATA, spec)))


@pytest.mark.parametrize("unit", ["sample", "element", "metric"])
def test_released_values_lie_on_the_grid_whatever_comes_in(unit: Unit) -> None:
    random = np.random.default_rng(2)
    rows = random.normal(size=(40, 24)).astype(np.float32)
    rows[:8] *= np.float32(1e-38)
    rows[8:16] = np.float32(3.4e38)
    rows[16:20] = np.finfo(np.float32).smallest_subnormal
    rows[20:24] = 0
    made = releaser(unit=unit)
    released = made.release_rows(rows, np.arange(40))
    assert released.dtype == np.float32
    steps = released.astype(np.float64) / made.spec.grid
    assert np.array_equal(steps, np.rint(steps))
    assert np.abs(steps).max() < 2**24


def test_a_release_is_the_same_bits_in_any_batch_and_order() -> None:
    rows = np.random.default_rng(3).normal(size=(60, 24)).astype(np.float32)
    ids = np.random.default_rng(4).permutation(1000)[:60]
    whole = releaser().release_rows(rows, ids)
    order = np.random.default_rng(5).permutation(60)
    again = releaser().release_rows(rows[order], ids[order])
    assert again.tobytes() == whole[order].tobytes()
    single = [releaser().release_rows(rows[i : i + 1], ids[i : i + 1]) for i in range(60)]
    assert np.concatenate(single).tobytes() == whole.tobytes()


def test_a_release_is_the_clipped_row_plus_the_noise() -> None:
    made = releaser()
    rows = np.random.default_rng(6).normal(size=(5000, 24)) * 0.01
    error = made.release_rows(rows, np.arange(5000)) - rows
    assert np.std(error) == pytest.approx(made.spec.sigma, rel=0.01)
    assert abs(np.mean(error)) < 4 * made.spec.sigma / np.sqrt(error.size)


def test_noise_of_another_mechanism_is_refused() -> None:
    strong, weak = releaser(epsilon=1.0), releaser(epsilon=2.0)
    with pytest.raises(ValueError, match="another mechanism"):
        GaussianReleaser(strong.spec, weak._stream)


def test_ids_and_rows_must_match() -> None:
    for made in (releaser(), PlainReleaser()):
        with pytest.raises(ValueError, match="sample ids"):
            made.release_rows(np.zeros((3, 24), dtype=np.float32), np.arange(2))


def test_a_broken_row_names_its_sample() -> None:
    rows = np.full((1, 24), np.nan, dtype=np.float32)
    with pytest.raises(DataError, match="sample 9"):
        releaser().release_rows(rows, np.array([9]))


def test_privacy_off_passes_rows_through() -> None:
    plain: RowReleaser = PlainReleaser()
    rows = np.random.default_rng(7).normal(size=(4, 3)).astype(np.float32) * 100
    assert plain.release_rows(rows, np.arange(4)).tobytes() == rows.tobytes()
