import keras
import numpy as np
import pytest
from keras import ops

from zdckeras import backend
from zdckeras.vq.codebook import DEAD_CODE_STRIDE, Codebook, count_tokens, perplexity, share_used

numpy = ops.convert_to_numpy
grad = backend.steps().grad
JITS = {"tensorflow": [False, True], "jax": [True], "torch": [False]}[backend.name()]


def vectors(rows=6, tokens=4, width=3, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, tokens, width)).astype("float32")


class Trained(keras.Model):
    """Codebooks whose input is moved by one trainable matrix, so that there is always something to train."""

    def __init__(self, *books):
        super().__init__()
        self.books, width = list(books), books[0].width
        self.move = keras.layers.Dense(width, use_bias=False, kernel_initializer="identity")
        self.move.build((None, width))
        self.built = True

    def call(self, inputs, training=False):
        moved = self.move(inputs["z"])
        return sum(book(moved, training=training)[2] for book in self.books)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return ops.mean(y_pred)


def direction(z):
    return z / np.linalg.norm(z, axis=-1, keepdims=True)


@pytest.mark.parametrize("decay", [None, 0.9])
@pytest.mark.parametrize("normalise", [False, True])
def test_nearest_codes_and_losses_are_those_of_numpy(normalise, decay):
    book, z = Codebook(7, 3, normalise, commitment=0.5, decay=decay, seed=1), vectors()
    quantised, tokens, loss = map(numpy, book(z))
    codes = numpy(book.table())
    seen = direction(z) if normalise else z
    squares = ((seen[:, :, None] - codes) ** 2).sum(axis=-1)
    assert tokens.dtype == np.int32 and np.array_equal(tokens, squares.argmin(axis=-1))
    np.testing.assert_allclose(quantised, codes[tokens], atol=1e-6)
    assert np.array_equal(numpy(book.lookup(tokens)), codes[tokens])
    np.testing.assert_allclose(loss, (1.5 if decay is None else 0.5) * squares.min(axis=-1).mean(axis=-1), rtol=1e-4)
    if normalise:
        np.testing.assert_allclose(np.linalg.norm(codes, axis=-1), 1.0, atol=1e-5)


@pytest.mark.parametrize("decay", [None, 0.99])
def test_published_codes_are_compared_projected_and_handed_on_by_a_dense_layer(decay):
    """Two numbers decide; loss and what is handed on are those of the dense layer, which averages leave alone."""
    book, z = Codebook(7, 3, decay=decay, threshold=0.0, projection=2, behind=True, seed=1), vectors()
    kept = direction(numpy(book._codes()))
    codes = kept @ numpy(book.behind.kernel) + numpy(book.behind.bias)
    project = numpy(book.project.kernel)
    near = direction(z @ project) @ direction(numpy(book._codes()) @ project).T
    quantised, tokens, loss = map(numpy, book(z))
    assert project.shape == (3, 2) and np.array_equal(tokens, near.argmax(axis=-1))
    np.testing.assert_allclose(quantised, codes[tokens], atol=1e-5)
    np.testing.assert_allclose(numpy(book.lookup(tokens)), codes[tokens], atol=1e-5)
    far = ((direction(z) - codes[tokens]) ** 2).sum(axis=-1).mean(axis=-1)
    np.testing.assert_allclose(loss, (1.25 if decay is None else 0.25) * far, rtol=1e-4)
    assert len(book.trainable_variables) == (3 if decay is None else 0)
    if decay is not None:  # the first batch outweighs what the codes began with, by vectors that are not normalised
        book(1e4 * z, training=True)
        mean = np.stack([z[tokens == k].sum(axis=0) for k in np.unique(tokens)])
        np.testing.assert_allclose(direction(numpy(book._codes()))[np.unique(tokens)], direction(mean), atol=0.02)
    again = Codebook.from_config(book.get_config())
    assert all(np.array_equal(a, b) for a, b in zip(again.get_weights()[-2:], book.get_weights()[-2:], strict=True))


def test_gradient_passes_straight_through():
    """To the vector itself; through its normalisation, where codes are directions: only across the vector."""
    z, weight = vectors(), vectors(seed=3)

    def gradient(book):
        return numpy(grad(lambda z: ops.sum(book(z)[0] * ops.convert_to_tensor(weight)), ops.convert_to_tensor(z)))

    plain = gradient(Codebook(7, 3, False))
    np.testing.assert_allclose(plain, weight, rtol=1e-6)
    across = weight - direction(z) * (weight * direction(z)).sum(axis=-1, keepdims=True)
    found = gradient(Codebook(7, 3))
    np.testing.assert_allclose(found, across / np.linalg.norm(z, axis=-1, keepdims=True), rtol=1e-3, atol=1e-4)


def test_codes_learnt_by_gradient_are_drawn_to_their_vectors():
    book, z = Codebook(5, 3, normalise=False, decay=None), vectors()
    _, _, gradients = backend.steps().value_and_grad(
        lambda: (ops.sum(book(ops.convert_to_tensor(z))[2]), {}), book.trainable_variables)
    tokens, codes = numpy(book(z)[1]), numpy(book.table())
    expected = [2.0 / 4.0 * (codes[k] - z[tokens == k]).sum(axis=0) for k in range(5)]
    np.testing.assert_allclose(numpy(gradients[0]), expected, rtol=1e-4, atol=1e-5)
    assert Codebook(5, 3, decay=0.9).trainable_variables == []


def test_moving_averages_are_those_of_numpy():
    book = Codebook(5, 3, normalise=False, decay=0.8, threshold=0.0)
    uses, sums = np.ones(5), numpy(book.table()).astype(float)
    for seed in range(3):
        z = vectors(seed=seed)
        tokens = numpy(book(z, training=True)[1]).ravel()
        which = np.eye(5)[tokens] * 5 / 24
        uses, sums = 0.8 * uses + 0.2 * which.sum(axis=0), 0.8 * sums + 0.2 * which.T @ z.reshape(-1, 3)
    np.testing.assert_allclose(numpy(book.table()), sums / uses[:, None], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(numpy(book.uses), uses, rtol=1e-5)
    before = book.get_weights()
    book(vectors())
    assert all(np.array_equal(a, b) for a, b in zip(before, book.get_weights(), strict=True))


@pytest.mark.parametrize("decay", [None, 0.99])
def test_codes_that_the_first_batch_does_not_use_move_to_its_vectors(decay):
    book, z = Codebook(16, 3, normalise=False, decay=decay, seed=2), 5.0 + 0.1 * vectors()
    before, tokens = numpy(book.table()), numpy(book(z, training=True)[1])
    after, used = numpy(book.table()), np.isin(np.arange(16), tokens)
    assert 0 < used.sum() < 8
    np.testing.assert_allclose(after[~used], z.reshape(-1, 3)[np.arange(16) * DEAD_CODE_STRIDE % 24][~used], atol=1e-4)
    assert np.array_equal(numpy(book.uses) == 1.0, ~used)
    if decay is None:
        assert np.array_equal(after[used], before[used])
    again = Codebook.from_config(book.get_config())
    again(z, training=True)
    assert np.array_equal(numpy(again.table()), after)


@pytest.mark.parametrize("jit", JITS)
def test_compiled_steps_leave_the_state_of_eager_ones(jit):
    """Dead codes move, averages follow and the matrix is trained; graphs take batches of any size."""
    states, rows = [], 12 if jit else 10
    for compiled in (True, False):
        model = Trained(Codebook(16, 3, decay=None), Codebook(16, 3, decay=0.5))
        model.compile(keras.optimizers.SGD(0.1, clipnorm=1.0), jit_compile=jit and compiled, run_eagerly=not compiled)
        model.fit({"z": vectors(rows)}, batch_size=6, epochs=2, shuffle=False, verbose=0)
        states.append(model.get_weights())
    for one, other in zip(*states, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert not np.allclose(states[0][-1], np.eye(3), atol=1e-4)


@pytest.mark.parametrize("decay", [None, 0.9])
def test_clusters_are_found(decay, eager):
    rng = np.random.default_rng(4)
    centres = 3.0 * rng.normal(size=(8, 4))
    z = (centres[np.arange(64) % 8] + 0.01 * rng.normal(size=(64, 4))).astype("float32")[:, None]
    model = Trained(Codebook(8, 4, normalise=False, commitment=0.0, decay=decay, threshold=0.2))
    model.compile(keras.optimizers.SGD(0.3), run_eagerly=eager)
    for _ in range(30):
        model.train_on_batch({"z": z})
    assert share_used(count_tokens(numpy(model.books[0](z)[1]), 8)) >= 0.75
    quantised, tokens, _ = map(numpy, model.books[0](z))
    assert len(np.unique(np.column_stack([tokens[:, 0], np.arange(64) % 8]), axis=0)) == 8
    assert float(model.books[0].perplexity()) > 5.0
    assert np.median(np.abs(quantised - z)) < 0.1


def test_uses_are_told():
    counts = count_tokens(np.array([[0.0, 1.0], [1.0, 3.0]], "float32"), 5)
    assert counts.tolist() == [1, 2, 0, 1, 0] and share_used(counts) == 0.6
    assert float(perplexity(counts)) == pytest.approx(np.exp(1.5 * np.log(2)), rel=1e-5)
    assert float(perplexity(np.ones(7))) == pytest.approx(7.0, rel=1e-5)
    assert Codebook(256, 32).operations() == 8192


@pytest.mark.parametrize(("wrong", "message"), [
    (dict(codes=0), "at least one code"), (dict(decay=1.0), "decay"), (dict(threshold=-0.1), "threshold"),
    (dict(commitment=np.nan), "commitment"), (dict(width=0), "one number")])
def test_settings_out_of_range_are_refused(wrong, message):
    with pytest.raises(ValueError, match=f"Expected.*{message}.*received"):
        Codebook(**{"codes": 4, "width": 2, **wrong})


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 3), (2, 2, 2, 3)])
def test_vectors_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"shape \(B, T, 3\), received"):
        Codebook(4, 3)(np.zeros(shape, "float32"))


@pytest.mark.parametrize("tokens", [[], [-1], [4], [0.5]])
def test_tokens_outside_the_codebook_are_refused(tokens):
    with pytest.raises(ValueError, match="Expected whole tokens from 0 to 3, received"):
        count_tokens(tokens, 4)
