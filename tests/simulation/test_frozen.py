import numpy as np
import pytest

from zdckeras.data.detectors import get_detector
from zdckeras.simulation.frozen import CELL_UNIT, EDGE_LOSS, HIGHEST_ENERGY, FrozenShowers, _Pool
from zdckeras.simulation.library import ShowerLibrary, packaged_library

KINDS = [22, 2112, 2212, 130, 211, -211]


def drawn_library(name, shape, per_kind=40, seed=0):
    """A library whose showers all follow one law: shape(dx, dy) of the cell centre minus the impact [cells], times E.

    So an imitation has to follow the same law, wherever it lands.
    """
    detector, rng = get_detector(name), np.random.default_rng(seed)
    block = tuple(2 * n for n in detector.shape)
    count = per_kind * len(KINDS)
    impact = rng.uniform(-1, 1, (count, 2))  # cells
    energy = np.exp(rng.uniform(np.log(20), np.log(2700), count))
    x, y = (np.arange(n) - (n - 1) / 2 for n in block)
    light = shape(x[None, :, None] - impact[:, 0, None, None], y[None, None, :] - impact[:, 1, None, None])
    primaries = np.column_stack([np.repeat(KINDS, per_kind), energy, impact * detector.pitch * 10,
                                 np.zeros((count, 2))])
    return ShowerLibrary(name, primaries, light * energy[:, None, None], {})


def blob(dx, dy):
    return np.exp(-(dx**2 + dy**2) / 8) / (8 * np.pi)


def hook(dx, dy):
    """The impact's own cell, and half as much in the neighbour that it is nearest to: dx, dy from centres to impact."""
    dx, dy = np.abs(dx), np.abs(dy)
    own = (dx <= 0.5) & (dy <= 0.5)
    sideways = (dy <= 0.5) & (dx > 0.5) & (1 - dx > dy)
    upwards = (dx <= 0.5) & (dy > 0.5) & (1 - dy > dx)
    return own + 0.5 * (sideways | upwards)


@pytest.fixture(scope="module", params=["zn", "zp"])
def name(request):
    return request.param


@pytest.fixture(scope="module")
def blobs(name):
    return FrozenShowers(name, drawn_library(name, blob))


def test_shower_lands_where_the_particle_does(name, blobs):
    detector, rng = get_detector(name), np.random.default_rng(1)
    inner = np.array(detector.half_size) - 14 * detector.pitch
    xy = rng.uniform(-inner, inner, (300, 2))
    energy = np.exp(rng.uniform(np.log(25), np.log(2500), 300))
    light, _ = blobs.expected_light(rng.choice(KINDS, 300), energy, *xy.T, rng)
    total = light.sum(axis=(1, 2))
    np.testing.assert_allclose(total / energy, 1.0, atol=0.06)
    for axis, n in enumerate(detector.shape):
        place = (np.arange(n) - (n - 1) / 2) * detector.pitch
        centre = light.sum(axis=2 - axis) @ place / total
        assert np.abs(centre - xy[:, axis]).max() < 0.6 * detector.pitch
        assert np.quantile(np.abs(centre - xy[:, axis]), 0.9) < 0.35 * detector.pitch
        assert np.abs((centre - xy[:, axis]).mean()) < 0.03 * detector.pitch


@pytest.mark.parametrize("u, v", [(0.42, 0.05), (-0.42, 0.05), (0.42, -0.05), (-0.42, -0.05)])
@pytest.mark.parametrize("swap", [False, True])
def test_shower_is_mirrored_like_the_impact(name, u, v, swap):
    detector = get_detector(name)
    showers = FrozenShowers(name, drawn_library(name, hook))
    u, v = (v, u) if swap else (u, v)
    cell = np.array([12, 9])
    x, y = (cell + 0.5 + (u, v) - np.array(detector.shape) / 2) * detector.pitch
    light, _ = showers.expected_light(np.full(40, 2112), np.full(40, 300.0), np.full(40, x), np.full(40, y), 3)
    mean = light.mean(axis=0)
    nearest = cell + ((0, np.sign(v)) if swap else (np.sign(u), 0))
    order = np.argsort(mean.reshape(-1))[::-1]
    assert np.unravel_index(order[0], detector.shape) == tuple(cell)
    assert np.unravel_index(order[1], detector.shape) == tuple(nearest.astype(int))
    assert mean.reshape(-1)[order[1]] > 1.5 * mean.reshape(-1)[order[2]]


def test_light_is_cut_at_the_edge(name, blobs):
    detector = get_detector(name)
    half = np.array(detector.half_size)
    n = 200
    for axis in range(2):
        for sign in (-1, 1):
            xy = np.zeros((n, 2))
            xy[:, axis] = sign * (half[axis] - 1e-6)
            light, _ = blobs.expected_light(np.full(n, 2112), np.full(n, 200.0), *xy.T, 0)
            share = light.sum(axis=(1, 2)).mean() / 200
            lost = EDGE_LOSS[name]["hadron"][0]
            # Half of the blob is outside; impacts on the edge lose the share of what came back everywhere.
            assert 0.5 * (1 - lost) - 0.05 < share < 0.5 * (1 - lost) + 0.05
            side = np.flip(light, axis + 1) if sign > 0 else light
            profile = side.sum(axis=(0, 2 - axis))
            assert profile[0] > profile[4] > profile[10]


def test_edge_loss_fades_inwards(name):
    showers = FrozenShowers(name)
    detector, n = get_detector(name), 400
    lost = []
    for depth in (0.1, 2.0, 8.0):
        x = np.full(n, detector.half_size[0] - depth * detector.pitch)
        arguments = np.full(n, 2112), np.full(n, 200.0), x, np.zeros(n), 7
        with_loss = showers.expected_light(*arguments)[0].sum()
        parameters = EDGE_LOSS.pop(name)
        try:
            without = showers.expected_light(*arguments)[0].sum()
        finally:
            EDGE_LOSS[name] = parameters
        lost.append(1 - with_loss / without)
    assert 0.12 < lost[0] < 0.35 and lost[0] > lost[1] > lost[2] > 0 and lost[2] < 0.05


def test_particles_beside_the_face_leave_nothing(name):
    hx, hy = get_detector(name).half_size
    x, y = np.array([hx + 0.01, -hx - 0.01, 0, 0]), np.array([0, 0, hy + 0.01, -hy - 0.01])
    assert FrozenShowers(name).respond(range(4), np.full(4, 22), np.full(4, 900.0), x, y, 4, 0).sum() == 0


def test_muons_and_neutrinos_leave_nothing(name):
    pdg = np.array([13, -13, 12, 16])
    assert FrozenShowers(name).respond(range(4), pdg, np.full(4, 900.0), np.zeros(4), np.zeros(4), 4, 0).sum() == 0


@pytest.mark.parametrize("pdg, energy", [(22, 60.0), (22, 900.0), (2112, 60.0), (2212, 900.0), (211, 300.0)])
def test_mean_and_spread_are_those_of_the_fit(name, pdg, energy):
    showers, rng, n = FrozenShowers(name), np.random.default_rng(5), 4000
    xy = rng.uniform(-0.5, 0.5, (n, 2)) * showers.detector.pitch
    light, source = showers.expected_light(np.full(n, pdg), np.full(n, energy), *xy.T, rng)
    assert len(np.unique(source)) > 10
    frozen = showers._frozen
    available = energy - (0.939 if pdg in (2112, 2212) else 0.0)
    offset = np.mod(xy / showers.detector.pitch, 1) - 0.5
    mean, spread = frozen.fit(np.full(n, pdg), np.full(n, available), offset)
    contained = frozen_share(showers, source)
    ratio = light.sum(axis=(1, 2)) / (mean * available * contained)
    assert ratio.mean() == pytest.approx(1.0, abs=5 * spread[0] / np.sqrt(n) + 0.004)
    assert ratio.std() == pytest.approx(spread[0], rel=0.45)


def frozen_share(showers, source):
    """Share of each library shower's light in the central part of the block that the detector covers."""
    light = packaged_library(showers.detector.name).light
    low = [n // 2 for n in showers.detector.shape]
    inner = light[:, low[0] : -low[0], low[1] : -low[1]].sum(axis=(1, 2)) / light.sum(axis=(1, 2))
    return inner[source]


def test_photons_are_poisson(name, blobs):
    n = 4000
    response = blobs.respond(range(n), np.full(n, 22), np.full(n, 100.0), np.zeros(n), np.zeros(n), n, 2)
    light, _ = blobs.expected_light(np.full(n, 22), np.full(n, 100.0), np.zeros(n), np.zeros(n), 2)
    total = response.sum(axis=(1, 2))
    assert total.mean() == pytest.approx(light.sum(axis=(1, 2)).mean(), abs=5 * 10 / np.sqrt(n))
    assert total.var() == pytest.approx(total.mean(), rel=5 * np.sqrt(2 / n) + 0.02)
    cell = tuple(k // 2 for k in get_detector(name).shape)
    counts, expected = response[:, cell[0], cell[1]], light[:, cell[0], cell[1]]
    assert counts.var() == pytest.approx(counts.mean() + expected.var(), rel=5 * np.sqrt(2 / n) + 0.05)


def test_light_of_one_primary_adds(name, blobs):
    n = 1000
    primary = np.repeat(np.arange(n), 2)
    together = blobs.respond(primary, np.full(2 * n, 22), np.full(2 * n, 50.0), np.zeros(2 * n), np.zeros(2 * n), n, 0)
    assert together.sum(axis=(1, 2)).mean() == pytest.approx(100, abs=5 * 10 / np.sqrt(n) + 1.5)


def test_primaries_keep_their_place(name, blobs):
    primary = np.array([7, 2, 5000])
    response = blobs.respond(primary, [22, 2112, 22], [500.0, 500.0, 500.0], [0, 0, 0], [0, 0, 0], 6000, 0)
    assert np.flatnonzero(response.sum(axis=(1, 2))).tolist() == [2, 7, 5000]
    assert response.dtype == np.uint16 and response.shape == (6000, *get_detector(name).shape)


def test_no_arrivals_no_light(name, blobs):
    empty = np.zeros(0)
    assert blobs.respond(empty.astype(int), empty.astype(int), empty, empty, empty, 3, 0).sum() == 0
    assert blobs.respond(empty.astype(int), empty.astype(int), empty, empty, empty, 0, 0).shape[0] == 0


def test_seed_repeats(name):
    showers, n = FrozenShowers(name), 50
    arguments = range(n), np.full(n, 2112), np.full(n, 700.0), np.zeros(n), np.zeros(n), n
    first = showers.respond(*arguments, 4)
    np.testing.assert_array_equal(first, showers.respond(*arguments, 4))
    np.testing.assert_array_equal(first, showers.respond(*arguments, np.random.default_rng(4)))
    assert (first != showers.respond(*arguments, 5)).any()


def test_same_particle_gives_different_showers(name):
    n = 400
    light, source = FrozenShowers(name).expected_light(
        np.full(n, 2112), np.full(n, 700.0), np.full(n, 0.03), np.full(n, 0.02), 1)
    assert len(np.unique(source)) >= 15
    total = light.sum(axis=(1, 2))
    assert 0.04 < total.std() / total.mean() < 0.3


@pytest.mark.parametrize("pdg", [22, 2112, 211])
def test_light_scales_flat_beyond_the_library(name, pdg):
    showers, n = FrozenShowers(name), 3000
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-0.5, 0.5, (2, n))

    def per_gev(energy):
        light, _ = showers.expected_light(np.full(n, pdg), np.full(n, energy), x, y, 0)
        available = energy - 0.9396 * (pdg == 2112)
        return light.sum(axis=(1, 2)).mean() / available

    assert per_gev(5.0) == pytest.approx(per_gev(20.0), rel=0.06)
    assert per_gev(20_000.0) == pytest.approx(per_gev(2700.0), rel=0.03)


@pytest.mark.parametrize("change, message", [
    ({"energy": [np.nan, 1.0]}, "energies"),
    ({"energy": [-1.0, 1.0]}, "energies"),
    ({"energy": [2 * HIGHEST_ENERGY, 1.0]}, "energies"),
    ({"x": [np.inf, 0.0]}, "finite impact"),
    ({"y": [0.0]}, "one length|shapes|broadcast|same shape"),
    ({"energy": [1.0]}, "one length"),
    ({"pdg": [22, 424242]}, "Unknown PDG"),
    ({"pdg": [22, 1000020040]}, "No showers stand for"),
    ({"primary": [0, 2]}, "from 0 to 1"),
    ({"primary": [-1, 0]}, "from 0 to 1"),
    ({"primary": [0]}, "2 indices"),
])
def test_bad_arrivals_are_refused(change, message):
    arrivals = {"primary": [0, 1], "pdg": [22, 2112], "energy": [50.0, 50.0], "x": [0.0, 0.0], "y": [0.0, 0.0]}
    with pytest.raises(ValueError, match=message):
        FrozenShowers("zn").respond(**(arrivals | change), size=2, rng=0)


def test_light_of_several_arrivals_that_no_count_holds_is_refused():
    """Of one primary: a count of 16 bits would begin again at 0."""
    zn, n = FrozenShowers("zn"), 40
    alone = [np.full(n, 22), np.full(n, HIGHEST_ENERGY), np.full(n, 0.08), np.full(n, 0.08)]
    with pytest.raises(ValueError, match=r"at most 65535 photons in a cell of zn, made \d{6,} of what arrives from "
                                         "primary 1"):
        zn.respond(np.ones(n, int), *alone, size=2, rng=1)
    assert zn.respond(np.arange(n), *alone, size=n, rng=1).dtype == np.uint16


def test_library_of_another_detector_is_refused():
    with pytest.raises(ValueError, match="library of zp, received one of zn"):
        FrozenShowers("zp", drawn_library("zn", blob, per_kind=2))


def test_too_small_a_library_is_refused():
    library = drawn_library("zn", blob, per_kind=10)
    with pytest.raises(ValueError, match="8 photon showers"):
        FrozenShowers("zn", library.select(library.pdg != 22))


@pytest.mark.parametrize(("inside", "outside", "drawn"), [
    (10, 90, 24),  # fewer than the least within 1.5: the nearest 24
    (60, 40, 60),  # all within 1.5
    (150, 0, 96),  # more than the most: the nearest 96
])
def test_hadrons_draw_from_all_showers_nearby_within_limits(inside, outside, drawn):
    """Showers at known distances in one direction, not in their order; weights 1 - (d / d_last)^2."""
    far = np.concatenate([np.arange(1, inside + 1) / 100, 2.0 + np.arange(outside) / 56])
    last = {24: far[24], 60: 1.5, 96: far[96]}[drawn]
    order = np.random.default_rng(0).permutation(len(far))
    distance = far[order]
    folded = np.column_stack([distance * CELL_UNIT["hadron"], np.zeros(len(far))])
    pool = _Pool("hadron", np.arange(len(far)), np.zeros(len(far)), folded, np.zeros(len(far)))
    near, weight = pool.near(np.zeros(1), np.zeros((1, 2)), np.zeros(1))
    expected = np.maximum(1.0 - (distance[near[0]] / last) ** 2, 0.0)
    np.testing.assert_allclose(weight[0], expected / expected.sum(), atol=1e-9)
    assert (weight > 1e-6).sum() == drawn and sorted(distance[near[0][weight[0] > 1e-6]]) == sorted(far[:drawn])


@pytest.mark.parametrize(("away", "drawn"), [(0.0, 39), (5.0, 24)])
def test_showers_that_are_equally_far_away_share_evenly(away, drawn):
    pool = _Pool("hadron", np.arange(40), np.zeros(40), np.zeros((40, 2)), np.zeros(40))
    weight = pool.near(np.zeros(1), np.full((1, 2), away), np.zeros(1))[1][0]
    np.testing.assert_allclose(weight, (np.arange(39) < drawn) / drawn, atol=1e-9)


def test_a_library_of_four_energies_and_one_point_gives_light():
    library, energies = drawn_library("zn", blob), np.array([50.0, 200.0, 800.0, 3200.0])
    primaries, hadrons = library.primaries.copy(), np.flatnonzero(library.pdg != 22)
    primaries[hadrons, 0], primaries[hadrons, 1], primaries[hadrons, 2:4] = 2112, energies[hadrons % 4], 0.3
    frozen = FrozenShowers("zn", ShowerLibrary("zn", primaries, library.light, {}))
    light = frozen.expected_light([2112] * 4, [200.0, 200.0, 400.0, 400.0], [0.03, 0.1] * 2, [0.03, 0.1] * 2, 1)[0]
    assert np.isfinite(light).all() and light.sum(axis=(1, 2)).min() > 0.0


def test_a_factor_is_the_formula_of_the_class(name):
    """m E (1 + (q - sum w q) / sqrt(1 - sum w^2)) / L, q = (L / (m E) - 1) s / s_i of the showers near, weighted w."""
    frozen, rng = FrozenShowers(name)._frozen, np.random.default_rng(3)
    kind, energy = np.repeat(KINDS[:3] + [211], 15), np.exp(rng.uniform(np.log(30), np.log(2500), 60))
    position = rng.uniform(5.0, 20.0, (60, 2))
    offset = frozen.offset(position)
    (mean, spread), folded = frozen.fit(kind, energy, offset), frozen.fold(offset)[0]
    shower, factor = frozen.draw(kind, energy, position, rng)
    expected = np.empty(60)
    for k, code in enumerate(kind):
        pool = frozen.pools["photon" if code == 22 else "hadron"]
        (near,), (w,) = pool.near(np.log(energy[k : k + 1]), folded[k : k + 1], kind[k : k + 1] == 211)
        q = frozen.deviation[near] * spread[k] / frozen.spread[near]
        (drawn,) = ((q - w @ q) / np.sqrt(1 - w @ w))[near == shower[k]]
        expected[k] = mean[k] * energy[k] * max(1 + drawn, 0.02) / frozen.total[shower[k]]
    np.testing.assert_allclose(factor, expected, rtol=1e-9)
    assert np.std(factor * frozen.total[shower] / (mean * energy)) > 0.05


def test_mesons_take_showers_of_mesons_first():
    """3 units away from baryons: within 1.5, where there are enough showers, there are none of the other sort."""
    distance = np.tile(np.arange(1, 61) / 100, 2)
    meson = np.repeat([True, False], 60)
    folded = np.column_stack([distance * CELL_UNIT["hadron"], np.zeros(120)])
    pool = _Pool("hadron", np.arange(120), np.zeros(120), folded, meson)
    for sort in (True, False):
        near, weight = pool.near(np.zeros(1), np.zeros((1, 2)), np.array([sort]))
        assert sorted(near[0][weight[0] > 0]) == np.flatnonzero(meson == sort).tolist()


@pytest.mark.parametrize(("axis", "far"), [(0, False), (0, True), (1, False), (1, True)])
@pytest.mark.parametrize(("code", "share", "reach"), [(22, 0.18, 1.6), (2112, 0.30, 2.5)])
def test_light_lost_at_an_edge_is_the_formula_of_its_function(axis, far, code, share, reach):
    """An impact 2 cells from an edge of ZN, and the middle of a cell at 1.5: 1 - a (1 + 4 2 1.5 / (1/4 + b^2))^-4."""
    frozen, light = FrozenShowers("zn")._frozen, np.ones(1, "float32")
    position, cell = np.full((1, 2), 20.5), [np.array([20]), np.array([20])]
    position[0, axis], cell[axis] = (42.0, np.array([42])) if far else (2.0, np.array([1]))
    frozen.lose(light, np.array([code]), np.array([0]), tuple(cell), position)
    assert 1.0 - light[0] == pytest.approx(share * (1 + 4 * 2 * 1.5 / (0.25 + reach**2)) ** -4, rel=2e-3)
