import keras
import numpy as np
import pytest
from keras import ops

from zdckeras import backend
from zdckeras.gan import losses

numpy = ops.convert_to_numpy
grad = backend.steps().grad


def tensor(values):
    return ops.convert_to_tensor(np.asarray(values, "float32"))


def softplus(x):
    return np.log1p(np.exp(x))


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    return rng.poisson(3.0, (4, 5, 6)).astype("float32"), rng.poisson(2.0, (4, 5, 6)).astype("float32")


def test_adversarial_losses():
    """D = sigmoid(logit): -E log D(x) - E log(1 - D(x')) and -E log D(x')."""
    real, generated = np.array([[2.0, -1.0], [0.5, 3.0]]), np.array([[1.0, -4.0], [0.0, 2.0]])
    d = lambda logit: 1.0 / (1.0 + np.exp(-logit))  # noqa: E731
    assert float(losses.critic_loss(tensor(real), tensor(generated))) == pytest.approx(
        -np.log(d(real)).mean() - np.log(1.0 - d(generated)).mean(), rel=1e-5)
    assert float(losses.generator_loss(tensor(generated))) == pytest.approx(-np.log(d(generated)).mean(), rel=1e-5)


@pytest.mark.parametrize("logit", [-200.0, 200.0])
def test_adversarial_losses_stay_finite_with_a_certain_critic(logit):
    certain = tensor([[logit]])
    assert float(losses.generator_loss(certain)) == pytest.approx(max(-logit, 0.0))
    assert float(losses.critic_loss(certain, certain)) == pytest.approx(200.0)
    assert numpy(grad(losses.generator_loss, certain)).item() == pytest.approx(-1.0 if logit < 0 else 0.0)


def test_generator_loss_does_not_saturate():
    """d/dl of softplus(-l) is -1 where the critic is sure of a fake, where that of log(1 - D) vanishes."""
    logits = tensor([[-8.0], [0.0], [8.0]])
    expected = -1.0 / (1.0 + np.exp([-8.0, 0.0, 8.0])) / 3.0
    np.testing.assert_allclose(numpy(grad(losses.generator_loss, logits))[:, 0], expected, rtol=1e-4)


def test_auxiliary_loss():
    assert float(losses.auxiliary_loss(tensor([[1.0, 2.0], [0.0, 5.0]]), tensor([[4.0, 6.0], [0.0, 4.0]]))) == 13.0


def test_diversity_loss(pair):
    rng = np.random.default_rng(1)
    first, second = np.log1p(pair[0]), np.log1p(pair[1])
    z1, z2, d = rng.normal(size=(4, 3)), rng.normal(size=(4, 3)), np.array([0.0, 0.2, 0.5, 1.0])
    ratio = np.abs(first - second).mean(axis=(1, 2)) / np.abs(z1 - z2).mean(axis=1)
    found = losses.diversity_loss(*map(tensor, (first, second, z1, z2, d)))
    assert float(found) == pytest.approx((d / (ratio + losses.SMALLEST)).mean(), rel=1e-5)


def test_diversity_loss_falls_as_responses_differ_and_only_where_data_do(pair):
    first, z = np.log1p(pair[0]), np.zeros((4, 3))
    loss = lambda size, d: float(losses.diversity_loss(  # noqa: E731
        *map(tensor, (first, first + size, z, z + 1.0, np.full(4, d)))))
    values = [loss(size, 0.7) for size in (0.0, 0.1, 1.0)]
    assert values[0] == pytest.approx(0.7 / losses.SMALLEST, rel=1e-5) and values == sorted(values, reverse=True)
    assert loss(0.1, 0.0) == 0.0


def test_equal_codes_and_equal_images_have_finite_gradients(pair):
    first, z = tensor(pair[0]), tensor(np.zeros((4, 3)))
    gradient = numpy(grad(lambda x: losses.diversity_loss(x, first, z, z, tensor(np.ones(4))), first))
    assert np.array_equal(gradient, np.zeros_like(gradient))


def test_intensity_loss(pair):
    """In photons, response by response: sums that agree only on average do not count as equal."""
    real, generated = pair
    expected = np.abs(real.sum(axis=(1, 2)) - generated.sum(axis=(1, 2))).mean()
    assert float(losses.intensity_loss(tensor(real), tensor(generated))) == pytest.approx(expected, rel=1e-6)
    swapped = real[[1, 0, 3, 2]]
    assert float(losses.intensity_loss(tensor(real), tensor(swapped))) > 0.0
    rolled = np.roll(real, 1, axis=2)
    assert float(losses.intensity_loss(tensor(real), tensor(rolled))) == 0.0


def test_l2_loss(pair):
    real, generated = (np.log1p(x) for x in pair)
    expected = ((real - generated) ** 2).mean()
    assert float(losses.l2_loss(tensor(real), tensor(generated))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("copies", [2, 3])
def test_losses_do_not_depend_on_the_batch_size(pair, copies):
    first, second = map(tensor, pair)
    again = [ops.concatenate([x] * copies) for x in (first, second)]
    for loss in (losses.intensity_loss, losses.l2_loss):
        assert float(loss(*again)) == pytest.approx(float(loss(first, second)), rel=1e-5)


@pytest.mark.parametrize("shape", [(3, 7), (3, 4, 5)])
def test_gradient_norm_of_a_linear_critic(shape):
    """f = w . x + b: |grad f| = |w| everywhere."""
    rng = np.random.default_rng(2)
    w, x = rng.normal(size=shape[1:]), rng.normal(size=shape)
    axes = list(range(1, len(shape)))
    norm = losses.gradient_norm(lambda x: ops.sum(x * tensor(w), axis=axes) + 3.0, tensor(x))
    np.testing.assert_allclose(numpy(norm), np.full(shape[0], np.sqrt((w**2).sum())), rtol=1e-5)


def test_penalty_of_a_linear_critic_by_its_weights():
    """d/dw of |w|^2 = 2 w: the norm is differentiable once more."""
    dense = keras.layers.Dense(1, kernel_initializer=keras.initializers.RandomNormal(seed=0))
    dense.build((None, 4))
    x = tensor(np.random.default_rng(3).normal(size=(5, 4)))

    def penalty():
        return ops.mean(ops.square(losses.gradient_norm(dense, x))), ()

    value, _, (kernel, bias) = backend.steps().value_and_grad(penalty, dense.trainable_variables)
    w = numpy(dense.kernel)
    assert float(value) == pytest.approx((w**2).sum(), rel=1e-5)
    np.testing.assert_allclose(numpy(kernel), 2.0 * w, rtol=1e-5)
    assert numpy(bias).tolist() == [0.0]


def test_second_derivatives_against_finite_differences():
    """d/dw E |grad_x D|^2 of a critic with one hidden layer, central differences in float32."""
    rng = np.random.default_rng(4)
    first, second = (keras.layers.Dense(width, activation) for width, activation in ((6, "tanh"), (1, None)))
    first.build((None, 3))
    second.build((None, 6))
    variables = [*first.trainable_variables, *second.trainable_variables]
    for variable in variables:
        variable.assign(rng.normal(size=variable.shape).astype("float32"))
    x = tensor(rng.normal(size=(8, 3)))

    def penalty():
        return ops.mean(ops.square(losses.gradient_norm(lambda x: second(first(x)), x))), ()

    _, _, gradients = backend.steps().value_and_grad(penalty, variables)
    step, checked = 1e-2, 0
    for variable, gradient in zip(variables, gradients, strict=True):
        start, gradient = numpy(variable).copy(), numpy(gradient)
        for index in np.ndindex(start.shape):
            moved = np.zeros_like(start)
            moved[index] = step
            values = []
            for sign in (1.0, -1.0):
                variable.assign(start + sign * moved)
                values.append(numpy(penalty()[0]).item())
            assert (values[0] - values[1]) / (2 * step) == pytest.approx(gradient[index], rel=1e-2, abs=1e-2)
            checked += 1
        variable.assign(start)
    assert checked == 3 * 6 + 6 + 6 + 1 and max(np.abs(numpy(g)).max() for g in gradients) > 1.0
