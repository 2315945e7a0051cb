import numpy as np
import pytest

from zdckeras.data.detectors import (
    CHANNEL_COUNT,
    CONVENTIONS,
    DETECTORS,
    channel_masks,
    channel_sums,
    flat_masks,
    get_detector,
)


@pytest.mark.parametrize(
    ("name", "shape", "half", "position"),
    [("zn", (44, 44), (3.52, 3.52), (11260.6, 0.0)), ("zp", (56, 30), (11.2, 6.0), (11252.6, 24.35))],
)
def test_sizes_and_positions(name, shape, half, position):
    """Half sizes and places of the ALICE geometry, in cm."""
    detector = get_detector(name)
    assert detector.shape == shape and detector.cells == shape[0] * shape[1]
    assert detector.half_size == pytest.approx(half)
    assert (detector.distance, detector.centre_x) == position
    assert 0 < 2 * detector.fibre_radius < detector.pitch


@pytest.mark.parametrize(
    ("name", "shape", "half", "depth"), [("ecal", (30, 30), 30.0, 66 * 0.6), ("focalh", (36, 36), 45.0, 110.0)]
)
def test_sampling_calorimeters_read_energies(name, shape, half, depth):
    """Sizes in cm of LHCb's shashlik cells and of the stand-in for FoCal-H, centred on the beam, without magnets."""
    detector = get_detector(name)
    assert detector.shape == shape and detector.half_size == pytest.approx((half, half))
    assert detector.length == pytest.approx(depth) and (detector.centre_x, detector.bend) == (0.0, 0.0)
    assert detector.unit == "MeV" and get_detector("zn").unit == get_detector("zp").unit == "photons"


def test_magnets_bring_beam_protons_to_the_centre_of_zp():
    detector = get_detector("zp")
    assert detector.bend / 2680.0 == pytest.approx(detector.centre_x)


def test_lookup_by_any_case_and_by_itself():
    assert get_detector("Zn") is get_detector("zn") is get_detector(get_detector("ZN"))
    assert all(get_detector(name).name == name for name in DETECTORS)


@pytest.mark.parametrize("name", ["zdc", "", None, 3])
def test_unknown_detector(name):
    with pytest.raises(ValueError, match=r"Unknown detector .*expected one of zn, zp, ecal, focalh"):
        get_detector(name)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("shape", [(44, 44), (56, 30), (30, 30), (4, 4), (8, 2)])
def test_masks_are_a_partition(shape, convention):
    masks = channel_masks(shape, convention)
    assert masks.shape == (CHANNEL_COUNT, *shape) and masks.dtype == bool
    assert np.array_equal(masks.sum(axis=0), np.ones(shape))
    assert masks[4].sum() == shape[0] * shape[1] / 2  # half of all fibres are read out together
    assert np.ptp(masks[:4].sum(axis=(1, 2))) <= 1  # an odd number of cells a quadrant cannot be shared evenly
    assert not masks.flags.writeable
    flat = flat_masks(shape, convention)
    assert np.array_equal(flat.reshape(masks.shape), masks) and flat.dtype == np.float32


# Which channel reads each cell of a 4 x 4 image, and of an 8 x 2 one for the strips of O2's ZP; x runs downwards.
BY_HAND = {
    ("papers", (4, 4)): ["1525", "5152", "3545", "5354"],
    ("proton-paper", (4, 4)): ["5354", "3545", "5152", "1525"],
    ("o2", (4, 4)): ["5153", "1535", "5254", "2545"],
    ("o2", (8, 2)): ["51", "15", "52", "25", "53", "35", "54", "45"],
    ("papers", (8, 2)): ["15", "52", "15", "52", "35", "54", "35", "54"],
}


@pytest.mark.parametrize(("convention", "shape"), list(BY_HAND))
def test_conventions_by_hand(convention, shape):
    expected = np.array([[int(channel) for channel in row] for row in BY_HAND[convention, shape]])
    assert np.array_equal(channel_masks(shape, convention).argmax(axis=0) + 1, expected)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_sums_of_an_image(convention):
    """Cell (x, y) = (0, 0) is even: a tower of `papers`, the common channel of the other two."""
    image = np.zeros((2, 44, 44), "uint16")
    image[0, 0, 0], image[0, 43, 0] = 7, 5
    first = {"papers": [7, 0, 0, 0, 5], "proton-paper": [5, 0, 0, 0, 7], "o2": [0, 5, 0, 0, 7]}[convention]
    sums = channel_sums(image, convention)
    assert np.array_equal(sums, [first, [0] * 5])
    assert sums.dtype == np.float64


def test_sums_do_not_overflow():
    assert channel_sums(np.full((1, 44, 44), 65535, "uint16")).sum() == 65535 * 44 * 44


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"Unknown channel convention 'zdc'; expected one of papers, proton-paper, o2"):
        channel_masks((44, 44), "zdc")
    with pytest.raises(ValueError, match=r"responses of shape \(N, nx, ny\), received \(44, 44\)"):
        channel_sums(np.zeros((44, 44)))
