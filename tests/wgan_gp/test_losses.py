import numpy as np
import pytest
from keras import ops

from zdckeras import backend
from zdckeras.wgan_gp import losses

numpy = ops.convert_to_numpy
grad = backend.steps().grad


def tensor(values):
    return ops.convert_to_tensor(np.asarray(values, "float32"))


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    return rng.poisson(3.0, (4, 5, 6)).astype("float32"), rng.poisson(2.0, (4, 5, 6)).astype("float32")


def test_wasserstein_loss_is_a_difference_of_means():
    real, generated = np.array([[1.0], [3.0], [8.0]]), np.array([[-2.0], [7.0]])
    assert float(losses.wasserstein_loss(tensor(real), tensor(generated))) == pytest.approx(2.5 - 4.0)
    assert float(losses.wasserstein_loss(tensor(real + 9.0), tensor(generated + 9.0))) == pytest.approx(-1.5)


@pytest.mark.parametrize("size", [0.0, 0.5, 1.0, 3.0])
def test_gradient_penalty_of_a_linear_critic(size, pair):
    """D = w . y: (|w| - 1)^2 wherever it is taken."""
    w = np.random.default_rng(5).normal(size=(5, 6))
    w = tensor(size * w / np.linalg.norm(w))
    share = tensor(np.random.default_rng(6).random((4, 1, 1)))
    found = losses.gradient_penalty(lambda y: ops.sum(y * w, axis=(1, 2)), *map(tensor, pair), share)
    assert float(found) == pytest.approx((size - 1.0) ** 2, abs=1e-4)


def test_gradient_penalty_is_taken_between_the_two_and_has_no_gradient_by_them(pair):
    """D = |y|^2 / 2: |grad D| = |u x + (1 - u) x'|."""
    share = np.array([0.0, 1.0, 0.25, 0.5]).reshape(4, 1, 1)
    between = share * pair[0] + (1.0 - share) * pair[1]
    expected = ((np.sqrt((between**2).sum(axis=(1, 2))) - 1.0) ** 2).mean()

    def penalty(x):
        return losses.gradient_penalty(lambda y: 0.5 * ops.sum(y * y, axis=(1, 2)), x, tensor(pair[1]),
                                           tensor(share))

    assert numpy(penalty(tensor(pair[0]))).item() == pytest.approx(expected, rel=1e-5)
    assert not numpy(grad(penalty, tensor(pair[0]))).any()


def test_centre_loss_by_hand():
    """Centres (0.5, -1) and (-2, 1.5) of 5 x 4 cells, expected elsewhere: (0.25 + 4 + 9 + 0) / 2."""
    energy = np.zeros((2, 5, 4))
    energy[0, 2, 0], energy[0, 3, 1] = 3.0, 3.0
    energy[1, 0, 3] = 0.2
    expected = [[0.0, 1.0], [1.0, 1.5]]
    assert float(losses.centre_loss(tensor(energy), tensor(expected))) == pytest.approx(13.25 / 2, rel=1e-4)
    centres = [[0.5, -1.0], [-2.0, 1.5]]
    assert float(losses.centre_loss(tensor(energy), tensor(centres))) == pytest.approx(0.0, abs=1e-8)
    assert float(losses.centre_loss(tensor(50.0 * energy), tensor(expected))) == pytest.approx(13.25 / 2, rel=1e-5)


def test_gradient_of_the_centre_loss():
    """d/de_ij |g - g_0|^2 = 2 (g - g_0) . (r_ij - g) / S."""
    e, g0 = np.random.default_rng(7).exponential(2.0, (3, 5, 4)), np.array([[0.3, -1.0], [2.0, 0.1], [0.0, 0.0]])
    place = np.stack(np.indices((5, 4)), axis=-1) - (2.0, 1.5)
    total = e.sum(axis=(1, 2))
    g = (e[..., None] * place).sum(axis=(1, 2)) / total[:, None]
    expected = 2.0 * ((g - g0)[:, None, None] * (place - g[:, None, None])).sum(axis=-1) / total[:, None, None] / 3.0
    found = numpy(grad(lambda e: losses.centre_loss(e, tensor(g0)), tensor(e)))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_centre_loss_of_empty_responses_is_finite():
    """They count as centred on the detector."""
    empty, expected = tensor(np.zeros((2, 6, 6))), tensor([[3.0, 4.0], [0.0, 0.0]])
    assert float(losses.centre_loss(empty, expected)) == pytest.approx(12.5)
    assert np.isfinite(numpy(grad(lambda e: losses.centre_loss(e, expected), empty))).all()
