import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from zdckeras.data.particles import conditions_of
from zdckeras.data.showers import Showers, concatenate

SHAPES = {"zn": (44, 44), "zp": (56, 30)}


def make(rows=12, detectors=("zn",), seed=0, distinct=None):
    """Showers with Poisson counts; `distinct` particles repeated in turn."""
    rng = np.random.default_rng(seed)
    distinct = distinct or rows
    pdg = rng.choice([22, 2112, 310, 3122, 3222], distinct)
    momentum = np.column_stack([rng.normal(0, 0.2, (distinct, 2)), rng.uniform(-2500, 2500, distinct)])
    take = np.arange(rows) % distinct
    responses = {d: rng.poisson(0.1, (rows, *SHAPES[d])).astype("uint16") for d in detectors}
    return Showers(conditions_of(pdg, momentum)[take], pdg[take], responses, {"seed": seed})


def arguments(**changes):
    showers = make(4)
    return {"particles": showers.particles, "pdg": showers.pdg, "responses": {"zn": showers.response}} | changes


def with_value(array, index, value, dtype="float64"):
    array = np.array(array, dtype)
    array[index] = value
    return array


def test_types_are_normalised():
    made = arguments()
    showers = Showers(
        made["particles"].astype("float32"),
        made["pdg"].astype("int64"),
        {"ZN": made["responses"]["zn"].astype("float32")},
    )
    assert showers.particles.dtype == np.float64
    assert showers.pdg.dtype == np.int32
    assert list(showers.responses) == ["zn"]
    assert showers.response.dtype == np.uint16
    np.testing.assert_array_equal(showers.response, made["responses"]["zn"])
    assert repr(showers) == "Showers(4 particles, zn)"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"particles": np.zeros((4, 8))}, r"expected shape \(N, 9\).*energy.*received \(4, 8\)"),
        ({"particles": np.zeros((0, 9)), "pdg": np.zeros(0, int)}, "Empty selection"),
        ({"particles": np.full((4, 9), "x")}, "expected numbers, received dtype"),
        ({"particles": with_value(np.ones((4, 9)), (2, 6), np.nan)}, r"particles\[2, 6\] \(pz\) = nan"),
        ({"particles": with_value(np.ones((4, 9)), (1, 0), np.inf)}, r"particles\[1, 0\] \(energy\) = inf"),
        ({"pdg": np.array([22, 22])}, r"pdg: expected shape \(4,\).*received \(2,\)"),
        ({"pdg": np.array([22, 22, 22, 2.5])}, "pdg: expected whole numbers"),
        ({"pdg": np.array([22, 22, 22, np.nan])}, "pdg: expected whole numbers"),
        ({"pdg": np.array([22, 22, 22, np.inf])}, "pdg: expected whole numbers"),
        ({"pdg": np.array([22, 22, 22, 9999999])}, r"Unknown PDG id\(s\) \[9999999\]"),
        ({"pdg": np.array([22, 99999999, 22, 9999999])}, r"Unknown PDG id\(s\) \[9999999, 99999999\]"),
        ({"responses": {}}, "at least one detector"),
        ({"responses": np.zeros((4, 44, 44))}, "dictionary"),
        ({"responses": {"tpc": np.zeros((4, 44, 44))}}, "Unknown detector 'tpc'"),
        ({"responses": {"zp": np.zeros((4, 44, 44))}}, r"expected shape \(4, 56, 30\), received \(4, 44, 44\)"),
        ({"responses": {"zn": np.zeros((3, 44, 44))}}, r"expected shape \(4, 44, 44\), received \(3, 44, 44\)"),
        ({"responses": {"zn": with_value(np.zeros((4, 44, 44)), (3, 5, 7), -1)}}, r"\[3, 5, 7\] = -1.0"),
        ({"responses": {"zn": with_value(np.zeros((4, 44, 44)), (0, 1, 2), 0.5)}}, r"\[0, 1, 2\] = 0.5"),
        ({"responses": {"zn": with_value(np.zeros((4, 44, 44)), (1, 0, 0), np.nan)}}, r"\[1, 0, 0\] = nan"),
        ({"responses": {"zn": with_value(np.zeros((4, 44, 44)), (1, 0, 0), np.inf)}}, r"\[1, 0, 0\] = inf"),
        ({"responses": {"zn": with_value(np.zeros((4, 44, 44)), (2, 0, 9), -3, "int32")}}, r"\[2, 0, 9\] = -3"),
        ({"responses": {"zn": with_value(np.zeros((4, 44, 44)), (2, 0, 9), 65536, "int64")}}, r"= 65536.*65535"),
        ({"responses": {"zn": np.full((4, 44, 44), "1")}}, "expected numbers"),
    ],
)
def test_bad_input_says_what_and_where(changes, message):
    with pytest.raises(ValueError, match=message):
        Showers(**arguments(**changes))


def test_counts_of_the_right_type_are_not_copied():
    showers = make(3)
    assert Showers(showers.particles, showers.pdg, {"zn": showers.response}).response is showers.response


@pytest.mark.parametrize(
    "rows, expected",
    [
        (slice(2, 5), [2, 3, 4]),
        (np.arange(12) % 4 == 1, [1, 5, 9]),
        (np.array([7, 0, 7]), [7, 0, 7]),
        (3, [3]),
        (np.int64(-1), [11]),
    ],
)
def test_indexing_keeps_rows_together(rows, expected):
    showers = make(12, ("zn", "zp"))
    part = showers[rows]
    np.testing.assert_array_equal(part.particles, showers.particles[expected])
    np.testing.assert_array_equal(part.pdg, showers.pdg[expected])
    for name in SHAPES:
        np.testing.assert_array_equal(part.responses[name], showers.responses[name][expected])
    assert part.metadata == {"seed": 0}


def test_empty_slice_is_an_error():
    with pytest.raises(ValueError, match="Empty selection"):
        make(4)[4:]


def test_response_needs_one_detector():
    showers = make(3, ("zn", "zp"))
    with pytest.raises(ValueError, match="several detectors, zn, zp: name one"):
        _ = showers.response
    assert showers.response_of("ZP").shape == (3, 56, 30)
    with pytest.raises(ValueError, match="no detector 'ecal', only zn, zp"):
        showers.response_of("ecal")


def test_only_some_detectors():
    showers = make(3, ("zn", "zp"))
    assert list(showers.only("ZP").responses) == ["zp"] and list(showers.only("zp", "zn").responses) == ["zp", "zn"]
    assert np.array_equal(showers.only("zp").response, showers.responses["zp"])
    assert showers.only("zn").metadata == showers.metadata
    with pytest.raises(ValueError, match="no detector 'ecal', only zn, zp"):
        showers.only("ecal")


@pytest.mark.parametrize("name, cut", [("zn", 10), ("zp", 1)])
def test_papers_cut(name, cut):
    response = np.zeros((4, *SHAPES[name]), "uint16")
    response[:, 3, 4] = [0, cut - 1, cut, cut + 1]
    showers = make(4)
    kept = Showers(showers.particles, showers.pdg, {name: response}).at_least()
    assert kept.photon_sums().tolist() == [cut, cut + 1]
    np.testing.assert_array_equal(kept.particles, showers.particles[2:])
    with pytest.raises(ValueError, match=f"none of 2 showers has at least 99 photons.*brightest has {cut + 1}"):
        kept.at_least(99)


def test_photon_sums_do_not_overflow():
    showers = make(1)
    bright = Showers(showers.particles, showers.pdg, {"zn": np.full((1, 44, 44), 65535, "uint16")})
    assert bright.photon_sums().tolist() == [65535 * 1936]


def test_cut_on_one_of_two_detectors():
    showers = make(20, ("zn", "zp"))
    cut = int(np.median(showers.photon_sums("zp")))
    kept = showers.at_least(cut, "zp")
    assert len(kept) == (showers.responses["zp"].sum(axis=(1, 2)) >= cut).sum() < 20
    assert kept.response_of("zn").shape[0] == len(kept)


def test_species_mask():
    showers = make(40)
    np.testing.assert_array_equal(showers.species(2112), showers.pdg == 2112)
    assert set(showers[showers.species(2112)].pdg) == {2112}


def test_split_is_the_published_one_row_by_row():
    showers = make(203)
    rest_r, test_r, rest_p, test_p = train_test_split(
        showers.response, showers.particles, test_size=0.2, random_state=42
    )
    train_r, validation_r, train_p, validation_p = train_test_split(rest_r, rest_p, test_size=0.125, random_state=43)
    for part, particles, response in zip(
        showers.split(), (train_p, validation_p, test_p), (train_r, validation_r, test_r), strict=True
    ):
        np.testing.assert_array_equal(part.particles, particles)
        np.testing.assert_array_equal(part.response, response)


def test_split_by_condition_keeps_repeats_on_one_side():
    showers = make(120, distinct=20)
    parts = showers.split(by_condition=True)
    keys = [{row.tobytes() for row in part.particles} for part in parts]
    assert [len(k) for k in keys] == [14, 2, 4]
    assert len(set.union(*keys)) == 20
    assert sum(map(len, parts)) == 120
    assert any({row.tobytes() for row in a.particles} & keys[2] for a in showers.split()[:1])


def test_split_of_too_few():
    with pytest.raises(ValueError, match="at least 3 showers, found 2"):
        make(2).split()
    with pytest.raises(ValueError, match="at least 3 conditions, found 2"):
        make(10, distinct=2).split(by_condition=True)


def test_concatenate():
    a, b = make(3, ("zn", "zp"), 1), make(5, ("zp", "zn"), 2)
    both = concatenate([a, b])
    assert len(both) == 8
    for name in SHAPES:
        np.testing.assert_array_equal(both[3:].responses[name], b.responses[name])
    assert both.metadata == {"parts": [{"seed": 1}, {"seed": 2}]}
    assert concatenate([a, a]).metadata == {"seed": 1}
    with pytest.raises(ValueError, match="Cannot concatenate"):
        concatenate([a, make(2)])
    with pytest.raises(ValueError, match="received none"):
        concatenate([])
