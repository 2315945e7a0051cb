import numpy as np
import pytest

from zdckeras.data.detectors import DETECTORS
from zdckeras.data.responses import energies, measured, photon_counts


def with_value(value, dtype="float64"):
    values = np.random.default_rng(0).exponential(5.0, (7, 30, 30)).astype(dtype)
    values[2, 3, 4] = value
    return values


@pytest.mark.parametrize("dtype", ["float64", "float16", "uint8", "int64", "bool"])
def test_whole_numbers_become_uint16(dtype):
    values = np.random.default_rng(0).poisson(1.0, (2, 3, 4)).astype(dtype)
    assert photon_counts(values).dtype == np.uint16 and np.array_equal(photon_counts(values), values)
    same = values.astype("uint16")
    assert photon_counts(same) is same


@pytest.mark.parametrize("values, message", [
    (np.zeros((30, 30), "uint16"), r"expected an array of shape \(N, nx, ny\), received shape \(30, 30\)"),
    (np.full((1, 2, 2), 1j), r"expected numbers \(photon counts\), received dtype complex128"),
    (np.full((1, 2, 2), 65536), r"here\[0, 0, 0\] = 65536: expected whole, non-negative photon counts up to 65535"),
    (np.full((1, 2, 2), np.nan), r"here\[0, 0, 0\] = nan"),
])
def test_what_photon_counts_are_not(values, message):
    with pytest.raises(ValueError, match=message):
        photon_counts(values, "here")


@pytest.mark.parametrize(("value", "whole"), [(3.00005, 3), (2.99995, 3), (60_000.05, 60_000), (3.001, None),
                                              (3.1, None), (2.75, None), (60_000.1, None), (-0.001, None)])
def test_whole_numbers_are_rounded_by_a_ten_thousandth_or_a_millionth(value, whole):
    values = np.full((1, 1, 1), value)
    if whole is None:
        with pytest.raises(ValueError, match=rf"responses\[0, 0, 0\] = {value}: expected whole"):
            photon_counts(values)
    else:
        assert photon_counts(values).item() == whole


def test_position_of_a_bad_count_is_right_beyond_the_first_block():
    values = np.zeros((5000, 1, 2))
    values[4500, 0, 1] = 1.5
    with pytest.raises(ValueError, match=r"responses\[4500, 0, 1\] = 1.5"):
        photon_counts(values)


@pytest.mark.parametrize("values, message", [
    (np.zeros((30, 30)), r"expected an array of shape \(N, nx, ny\), received shape \(30, 30\)"),
    (np.full((1, 2, 2), "1"), r"expected numbers \(energies\), received dtype"),
    (np.full((1, 2, 2), 1j), r"expected numbers \(energies\), received dtype complex128"),
    (with_value(-1, dtype="int32"), r"here\[2, 3, 4\] = -1"),
    (with_value(1e39), r"here\[2, 3, 4\] = 1e\+39"),  # more than float32 holds
])
def test_what_energies_are_not(values, message):
    with pytest.raises(ValueError, match=message):
        energies(values, "here")


def test_position_of_a_bad_energy_is_right_beyond_the_first_block():
    values = np.zeros((5000, 1, 2))
    values[4500, 0, 1] = np.nan
    with pytest.raises(ValueError, match=r"responses\[4500, 0, 1\] = nan"):
        energies(values)


@pytest.mark.parametrize("dtype", ["float64", "float16", "uint16", "int64", "bool"])
def test_all_numbers_become_float32(dtype):
    values = np.random.default_rng(0).poisson(1.0, (2, 3, 4)).astype(dtype)
    assert energies(values).dtype == np.float32 and np.array_equal(energies(values), values)


def test_the_unit_of_the_detector_decides():
    half = np.full((1, 44, 44), 0.5)
    assert (measured(half, DETECTORS["focalh"]) == 0.5).all()
    with pytest.raises(ValueError, match=r"0\.5: expected whole, non-negative photon counts"):
        measured(half, DETECTORS["zn"])
    assert measured(half * 2, DETECTORS["zn"]).dtype == np.uint16
