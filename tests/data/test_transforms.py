import numpy as np
import pytest
from keras import ops
from scipy import stats

from zdckeras.data.detectors import CONVENTIONS, channel_masks
from zdckeras.data.transforms import BoxCox, Dequantise, Logit, ShapeCode, impose_sums

numpy = ops.convert_to_numpy


def tensor(values):
    return ops.convert_to_tensor(np.asarray(values, "float32"))


def masks_of(shape, convention="papers"):
    return channel_masks(shape, convention).reshape(5, -1)


def sums_of(counts, masks):
    return counts.reshape(len(counts), -1) @ masks.T.astype("int64")


def images(shape, brightest, rows=24, seed=0):
    """Poisson images from empty to bright, each with one cell of `brightest` photons in the bright half."""
    rng = np.random.default_rng(seed)
    mean = np.geomspace(0.001, 3.0, rows)[:, None] * rng.exponential(1.0, (rows, shape[0] * shape[1]))
    counts = rng.poisson(mean)
    counts[np.arange(rows // 2, rows), rng.integers(0, counts.shape[1], rows - rows // 2)] = brightest
    return counts


@pytest.mark.parametrize(("noise", "bell"), [(0.1, 0.0), (0.5, 0.0), (1.0, 0.0), (1.0, 0.13), (0.5, 2.0)])
def test_dequantised_counts_come_back(noise, bell):
    counts = np.repeat([0, 1, 7, 2000, 3000], 1000)[None]
    uniform = np.random.default_rng(0).random(counts.shape, "float32")
    uniform[0, ::1000], uniform[0, 1::1000] = 0.0, np.nextafter(np.float32(1), np.float32(0))
    values = numpy(Dequantise(noise, bell).forward(counts, uniform))
    assert (values > counts).all() and (values < counts + noise).all()
    assert np.array_equal(numpy(Dequantise(noise, bell).inverse(values)), counts)


def test_noise_has_the_distribution_of_its_name():
    """Around r / 2: uniform with the deviation r / sqrt(12), or a bell of the width asked for with its tails cut."""
    uniform = np.random.default_rng(9).random(200_000, "float32")
    flat, bell = (numpy(Dequantise(0.8, width).forward(np.zeros(200_000), uniform)) / 0.8 for width in (0.0, 0.13))
    assert flat.mean() == pytest.approx(0.5, abs=0.003) and flat.std() == pytest.approx(0.96 / 12**0.5, rel=0.01)
    assert bell.mean() == pytest.approx(0.5, abs=0.003) and bell.std() == pytest.approx(0.12, rel=0.1)
    assert (np.diff(bell[np.argsort(uniform)]) >= 0).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dequantise(0.0), r"range in \(0, 1\], received 0.0"),
        (lambda: Dequantise(1.5), "received 1.5"),
        (lambda: Dequantise(0.5, -0.1), "at least 0, received -0.1"),
        (lambda: Logit(0.0), r"alpha in \(0, 0.5\), received 0.0"),
        (lambda: Logit(0.5), "received 0.5"),
    ],
)
def test_settings_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("alpha", [1e-6, 0.05])
def test_logit_is_inverted(alpha):
    x = np.array([[0.0, 1e-4, 0.02, 0.5, 0.9, 1.0]], "float32")
    y, _ = Logit(alpha).forward(x)
    np.testing.assert_allclose(numpy(Logit(alpha).inverse(y)), x, atol=2e-7)


@pytest.mark.parametrize("alpha", [1e-6, 0.05])
def test_logit_log_determinant_is_the_numerical_one(alpha):
    x, step = np.array([[0.03, 0.2, 0.5, 0.7, 0.95]], "float32"), np.float32(1e-3)
    logit = Logit(alpha)
    _, log_det = logit.forward(x)
    slope = (numpy(logit.forward(x + step)[0]) - numpy(logit.forward(x - step)[0])) / (2 * step)
    assert float(log_det[0]) == pytest.approx(np.log(slope).sum(), abs=3e-3)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize(("noise", "bell"), [(0.5, 0.0), (1.0, 0.13)])
@pytest.mark.parametrize(("shape", "brightest"), [
    ((44, 44), 2000), pytest.param((56, 30), 2000, marks=pytest.mark.compiles_long), ((44, 44), 3000)])
def test_code_gives_the_same_photons_back(shape, brightest, noise, bell, convention):
    counts, masks = images(shape, brightest), masks_of(shape, convention)
    code = ShapeCode.fit(images(shape, 40, rows=64, seed=1).reshape(-1, *shape), noise, bell)
    uniform = np.random.default_rng(2).random(counts.shape, "float32")
    y = code.encode(counts, uniform)
    assert np.array_equal(numpy(code.decode(y, sums_of(counts, masks), masks)), counts)


def test_code_gives_the_same_photons_back_from_the_photon_number_alone():
    counts, everything = images((44, 44), 2000), np.ones((1, 1936))
    y = ShapeCode().encode(counts, np.random.default_rng(3).random(counts.shape, "float32"))
    decoded = numpy(ShapeCode().decode(y, counts.sum(axis=1, keepdims=True), everything))
    assert np.array_equal(decoded, counts)


def test_fitted_code_is_standardised_and_survives_its_config():
    counts = images((30, 30), 20, rows=400)
    code = ShapeCode.fit(counts.reshape(-1, 30, 30), bell=0.2)
    uniform = np.random.default_rng(4).random(counts.shape, "float32")
    y = numpy(code.encode(counts, uniform))
    np.testing.assert_allclose(y.mean(axis=0), 0.0, atol=0.3)
    np.testing.assert_allclose(y.std(axis=0), 1.0, atol=0.3)
    again = ShapeCode(**code.get_config())
    assert np.array_equal(numpy(again.encode(counts, uniform)), y)


def test_fractions_sum_to_one():
    y = np.random.default_rng(5).normal(0.0, 3.0, (4, 900)).astype("float32")
    np.testing.assert_allclose(numpy(ShapeCode().fractions(y)).sum(axis=1), 1.0, rtol=1e-5)


def test_soft_sums_follow_the_photons():
    """S_k of a dequantised response, on average over the noise: half its range r is taken off every cell."""
    counts, masks = images((44, 44), 300), masks_of((44, 44))
    y = ShapeCode().encode(counts, np.full(counts.shape, 0.5, "float32"))
    soft = numpy(ShapeCode().soft_sums(y, counts.sum(axis=1, keepdims=True).astype("float32"), masks))
    np.testing.assert_allclose(soft, sums_of(counts, masks), atol=0.2)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("shape", [(44, 44), (56, 30)])
def test_sums_are_imposed_exactly(shape, convention):
    rng, masks = np.random.default_rng(6), masks_of(shape, convention)
    fractions = rng.gamma(0.1, 1.0, (64, masks.shape[1]))
    fractions = (fractions / fractions.sum(axis=1, keepdims=True)).astype("float32")
    sums = rng.integers(0, 4000, (64, 5))
    sums[:8] = 0
    sums[8:16, 2] = 0
    counts = numpy(impose_sums(fractions, sums, masks))
    assert np.array_equal(sums_of(counts, masks), sums)
    assert counts.min() >= 0 and np.array_equal(counts, np.rint(counts))
    beside = numpy(impose_sums(fractions, sums, masks, together=True))
    assert np.array_equal(sums_of(beside, masks), sums)
    assert (beside != counts).any(axis=1).mean() < 0.1 and np.abs(beside - counts).max() <= 1


def test_rows_of_a_batch_do_not_mix():
    rng, masks = np.random.default_rng(7), masks_of((30, 30))
    fractions, sums = rng.dirichlet(np.ones(900), 5).astype("float32"), rng.integers(0, 500, (5, 5))
    together = numpy(impose_sums(fractions, sums, masks))
    alone = np.concatenate([numpy(impose_sums(fractions[i : i + 1], sums[i : i + 1], masks)) for i in range(5)])
    assert np.array_equal(together, alone)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("fraction", [0.0, 1.0 / 900])
def test_masks_without_or_with_equal_shares_get_their_sums(fraction, together):
    """No cell stands out: the photons must stay inside their mask all the same."""
    masks, sums = masks_of((30, 30)), np.array([[3, 0, 700, 1, 9]])
    counts = numpy(impose_sums(np.full((1, 900), fraction, "float32"), sums, masks, together=together))
    assert np.array_equal(sums_of(counts, masks), sums)
    assert counts.min() >= 0


def test_brighter_cells_never_get_fewer_photons():
    rng, masks = np.random.default_rng(8), np.ones((1, 400))
    fractions = np.sort(rng.gamma(0.3, 1.0, (16, 400)), axis=1)
    fractions = (fractions / fractions.sum(axis=1, keepdims=True)).astype("float32")
    counts = numpy(impose_sums(fractions, rng.integers(0, 3000, (16, 1)), masks))
    assert (np.diff(counts, axis=1) >= 0).all()


POWERS = (0.0, 1e-8, 0.3, 1.0, -0.25, -1.0)


@pytest.mark.parametrize("power", POWERS)
def test_box_cox_by_formula(power):
    """(((x + d) / d)^lambda - 1) / lambda, and ln((x + d) / d) for lambda = 0."""
    x = np.array([0.0, 0.02, 1.0, 300.0])
    scaled = (x + 0.5) / 0.5
    expected = np.log(scaled) if abs(power) < 1e-6 else (scaled**power - 1.0) / power
    np.testing.assert_allclose(numpy(BoxCox(power, 0.5).forward(tensor(x))), expected, rtol=1e-5)


@pytest.mark.parametrize("shift", [0.1, 2.0])
@pytest.mark.parametrize("power", POWERS)
def test_box_cox_comes_back_and_zeros_stay_exactly_zero(power, shift):
    transform = BoxCox(power, shift)
    x = np.concatenate([np.zeros(5), np.geomspace(1e-3, 30.0, 50)]).astype("float32").reshape(5, 11)
    y = transform.forward(tensor(x))
    assert np.array_equal(numpy(y) == 0.0, x == 0.0) and (np.diff(numpy(y).ravel()[4:]) > 0).all()
    back = transform.inverse(y)
    assert back.dtype == y.dtype == tensor(x).dtype and np.array_equal(numpy(back) == 0.0, x == 0.0)
    np.testing.assert_allclose(numpy(back), x, rtol=2e-3 if power == -1.0 else 2e-4)


@pytest.mark.parametrize("power", [-0.5, 0.0, 0.5])
def test_whatever_a_network_says_becomes_an_energy(power):
    """Below 0, and beyond the limit -1 / lambda of negative powers."""
    energy = numpy(BoxCox(power).inverse(tensor([-3.0, -1e-6, 0.0, 1.9, 5.0])))
    assert energy[:3].tolist() == [0.0] * 3 and np.isfinite(energy).all() and (np.diff(energy) >= 0).all()


@pytest.mark.parametrize("power", [0.5, -0.2, 0.0])
def test_fitted_box_cox_power_is_the_one_of_scipy(power):
    """((x + d) / d)^lambda normal, so the power is known; empty cells do not count."""
    y = np.random.default_rng(10).normal(5.0, 0.5, 4000) if power >= 0 else np.random.default_rng(10).normal(
        0.6, 0.05, 4000)
    lit = 0.1 * ((y ** (1.0 / power) if power else np.exp(y - 3.0)) - 1.0)
    assert lit.min() > 0.0
    fitted = BoxCox.fit(np.concatenate([np.zeros(1000), lit, np.zeros(1000)]).reshape(-1, 30, 20))
    assert fitted.power == pytest.approx(stats.boxcox((lit + 0.1) / 0.1)[1], abs=1e-4)
    assert fitted.power == pytest.approx(power, abs=0.25) and fitted.shift == 0.1
    assert BoxCox(**fitted.get_config()).get_config() == fitted.get_config()


def test_box_cox_is_fitted_to_a_limited_number_of_cells():
    rng = np.random.default_rng(11)
    first, others = rng.exponential(1.0, 500), rng.exponential(9.0, 500) ** 2
    whole = np.concatenate([first, others])
    some = whole[np.linspace(0, 999, 500).astype(int)]
    assert BoxCox.fit(whole, sample=500).power == BoxCox.fit(some).power
    assert BoxCox.fit(whole, sample=1000).power == BoxCox.fit(whole).power


def test_box_cox_does_not_depend_on_the_order_of_the_showers():
    """Data sorted by energy: the faint ones alone would give another power."""
    cells = np.random.default_rng(12).exponential(1.0, (2000, 10)) * np.geomspace(0.1, 100.0, 2000)[:, None]
    whole, some = BoxCox.fit(cells), BoxCox.fit(cells, sample=2000)
    assert some.power == pytest.approx(whole.power, abs=0.02) and abs(BoxCox.fit(cells[:200]).power - whole.power) > 0.1
    ties = np.concatenate([np.full(1500, 3.0), np.linspace(3.0, 9.0, 500)])
    assert np.isfinite(BoxCox.fit(ties).power)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: BoxCox(0.5, 0.0), "positive shift, received 0.5 and 0.0"),
    (lambda: BoxCox(np.nan), "received nan and 0.1"),
    (lambda: BoxCox.fit(np.zeros((4, 30, 30))), "received 0 lit cells"),
    (lambda: BoxCox.fit(np.full((1, 2, 2), 3.0)), "received 4 lit cells that are all alike"),
])
def test_box_cox_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()
