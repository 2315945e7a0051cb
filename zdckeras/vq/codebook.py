"""Vector quantisation: every vector of a grid becomes the nearest of K codes, learnt by gradient or moving average."""

import keras
import numpy as np
from keras import layers, ops

from zdckeras import backend
from zdckeras.backend import Tensor
from zdckeras.layers.dense import linear, seeds_of
from zdckeras.layers.photon_drawing import straight_through

DEAD_CODE_STRIDE = 7919  # rows of a batch between those that two neighbouring dead codes move to; prime
FIRST_USES = 1 / 36  # of a code before training as published: one of the 36 that even use would be in a batch
SMOOTH = 1e-5  # uses added to each code, in units of even use


@keras.saving.register_keras_serializable("zdckeras")
class Codebook(layers.Layer):
    """Nearest code of every vector, k = argmin_k |z - e_k|^2, with the gradient of e_k passed straight on to z.

    Learnt by gradient (`decay` None):  L = |sg(z) - e_k|^2 + beta |z - sg(e_k)|^2
    by moving averages:                 L = beta |z - sg(e_k)|^2,  e_k = m_k / n_k,
                                        n_k <- g n_k + (1 - g) N_k,  m_k <- g m_k + (1 - g) sum_{z -> k} z

    sg stops the gradient, L is averaged over the tokens of a sample. N_k counts tokens of a batch in units of even use,
    all tokens / K, so that n_k is 1 for a code that is used as often as the others; n_k is smoothed so that its sum
    stays (Laplace). With `normalise`, z and e_k have length 1 and what is quantised is the direction.

    While training, a code with n_k below `threshold` is dead and moves to a vector of the batch, those of dead codes
    being far apart in the batch; it then counts as used evenly. At the start n_k = `threshold`: codes that the first
    batch does not use move to vectors of that batch. All of this is fixed by the batch; there are no random numbers.

    As published in the neutron study, z and e_k are projected to fewer numbers before they are compared, by weights
    that stay as they are drawn, and a dense layer follows: its values of e_k are what is handed on and what the loss
    compares with z. Beside moving averages, which then are those of z before it is normalised, that layer gets no
    gradient and stays, too.

    Arguments:
        codes: K.
        width: d of the vectors.
        normalise: to length 1.
        commitment: beta.
        decay: g of the moving averages, or None for codes learnt by gradient; use is then averaged with 0.99.
        threshold: share of even use below which a code is dead; 0 keeps all codes where they are.
        seed: of the first codes, and of what follows.
        projection: numbers that are compared, or None: all.
        behind: whether the dense layer follows.

    Returns:
        call((B, T, d)) gives quantised vectors (B, T, d), tokens (B, T) int32 and loss (B,).

    Raises:
        ValueError: for an empty codebook, settings out of range, or vectors of another width.

    Source:
        van den Oord et al., arXiv:1711.00937, eq. 3 and appendix A.1; normalised codes: arXiv:2110.04627; dead codes
        restarted from the batch: arXiv:2005.00341.

    Example:
        >>> book = Codebook(8, 2)
        >>> quantised, tokens, loss = book(np.random.default_rng(0).normal(size=(3, 4, 2)).astype("float32"))
        >>> np.array_equal(ops.convert_to_numpy(quantised), ops.convert_to_numpy(book.lookup(tokens)))
        True
        >>> tuple(loss.shape)
        (3,)
    """

    def __init__(self, codes=256, width=32, normalise=True, commitment=0.25, decay=0.99, threshold=0.1, seed=0,
                 projection=None, behind=False, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        if codes < 1 or width < 1:
            raise ValueError(f"Expected a codebook of at least one code and one number, received {codes} x {width}.")
        if (decay is not None and not 0.0 <= decay < 1.0) or not 0.0 <= threshold < 1.0 or not commitment >= 0.0:
            raise ValueError("Expected decay and threshold of at least 0 and below 1 and commitment of at least 0; "
                             f"received {decay}, {threshold} and {commitment}.")
        self.settings = dict(codes=codes, width=width, normalise=normalise, commitment=commitment, decay=decay,
                             threshold=threshold, seed=seed, projection=projection, behind=behind)
        self.codes, self.width, self.normalise, self.commitment = codes, width, normalise, commitment
        self.averaged, self.decay, self.threshold = decay is not None, 0.99 if decay is None else decay, threshold
        seeds = seeds_of([seed, 23])
        first = np.random.default_rng(next(seeds)).normal(size=(codes, width)).astype("float32")
        if normalise:
            first /= np.linalg.norm(first, axis=-1, keepdims=True)
        start = threshold or (FIRST_USES if behind else 1.0)
        self.project = linear(width, projection, seeds, False) if projection else None
        self.behind = linear(width, width, seeds) if behind else None
        for layer, learns in ((self.project, False), (self.behind, not self.averaged)):
            if layer is not None:  # what stays as it is drawn is the same on every backend
                drawn = np.random.default_rng(next(seeds)).normal(size=layer.kernel.shape) / np.sqrt(width)
                layer.kernel.assign(drawn.astype("float32"))
                layer.trainable = learns

        def state(name, values):
            return self.add_weight(shape=values.shape, initializer=lambda *a, **k: ops.convert_to_tensor(values),
                                   trainable=False, name=name)

        self.uses = state("uses", np.full(codes, start, "float32"))
        if self.averaged:
            self.sums = state("sums", start * first)
        else:  # what a train step assigns to trainable weights is lost under JAX: dead codes move by a shift
            self.learnt = self.add_weight(shape=first.shape, name="codes",
                                          initializer=lambda *a, **k: ops.convert_to_tensor(first))
            self.shifts = state("shifts", np.zeros_like(first))
        self.built = True

    def _directed(self, vectors):
        """Vectors as they are quantised."""
        if not self.normalise:
            return vectors
        return vectors * ops.rsqrt(ops.sum(ops.square(vectors), axis=-1, keepdims=True) + 1e-12)

    def _smooth(self, uses):
        total = ops.sum(uses)
        return (uses + SMOOTH) * (total / (total + self.codes * SMOOTH))

    def _codes(self):
        """All codes e_k as they are kept."""
        return self.sums / self._smooth(self.uses)[:, None] if self.averaged else self.learnt + self.shifts

    def table(self) -> Tensor:
        """All codes e_k as they are handed on, (K, d)."""
        codes = self._directed(self._codes())
        return codes if self.behind is None else self.behind(codes)

    def lookup(self, tokens: Tensor) -> Tensor:
        """Codes (..., d) of tokens (...)."""
        return ops.take(self.table(), ops.cast(tokens, "int32"), axis=0)

    def call(self, z, training=False):
        if len(z.shape) != 3 or z.shape[-1] != self.width:
            raise ValueError(f"Expected vectors of shape (B, T, {self.width}), received {tuple(z.shape)}.")
        count, raw, table = z.shape[1], ops.reshape(z, (-1, self.width)), self.table()
        z, fixed = self._directed(raw), ops.stop_gradient(table)
        still = ops.stop_gradient(z)
        near = self._near(ops.stop_gradient(raw))
        tokens = ops.argmax(near, axis=-1)
        which = ops.one_hot(tokens, self.codes)
        chosen = backend.exact_matmul(which, fixed)
        loss = self.commitment * ops.sum(ops.square(z - chosen), axis=-1)
        if not self.averaged:  # a product with one-hot rows: its gradient is dense and fast, that of `take` is neither
            loss = loss + ops.sum(ops.square(still - backend.exact_matmul(which, table)), axis=-1)
        if training:
            self._update(still if self.behind is None else ops.stop_gradient(raw), which)
        quantised = ops.reshape(straight_through(z, chosen), (-1, count, self.width))
        return (quantised, ops.reshape(ops.cast(tokens, "int32"), (-1, count)),
                ops.mean(ops.reshape(loss, (-1, count)), axis=-1))

    def _near(self, z):
        """How near each vector is to each code, (rows, K), up to what all codes have in common."""
        codes = ops.stop_gradient(self._codes())
        z, codes = (self._directed(v if self.project is None else self.project(v)) for v in (z, codes))
        near = backend.exact_matmul(z, ops.transpose(codes))
        return near if self.normalise else near - 0.5 * ops.sum(ops.square(codes), axis=-1)

    def _update(self, z, which):
        """Average uses and vectors of this batch into the state, then move dead codes."""
        rows = ops.shape(z)[0]
        even = self.codes / ops.cast(rows, "float32")
        keep, new = self.decay, (1.0 - self.decay) * even
        uses = keep * self.uses + new * ops.sum(which, axis=0)
        dead = uses < self.threshold
        moved = dead[:, None]
        spread = ops.take(z, ops.mod(np.arange(self.codes, dtype="int32") * DEAD_CODE_STRIDE, rows), axis=0)
        if self.averaged:
            sums = keep * self.sums + new * backend.exact_matmul(ops.transpose(which), z)
            self.sums.assign(ops.where(moved, spread, sums))
        else:
            learnt, shifts = (ops.stop_gradient(ops.convert_to_tensor(v)) for v in (self.learnt, self.shifts))
            self.shifts.assign(ops.where(moved, spread - learnt, shifts))
        self.uses.assign(ops.where(dead, 1.0, uses))

    def perplexity(self) -> Tensor:
        """`perplexity` of the averaged uses: how many codes are in use of late; a metric inside a train step."""
        return perplexity(self.uses)

    def operations(self) -> int:
        """Multiplications for one token: the distances, and the projection before them."""
        compared = self.settings["projection"]
        return (compared or self.width) * self.codes + (compared or 0) * self.width

    def get_config(self):
        return {**super().get_config(), **self.settings}


def count_tokens(tokens: np.ndarray, codes: int) -> np.ndarray:
    """How often each code occurs.

    Arguments:
        tokens: whole numbers, any shape, 0 to K - 1.
        codes: K.

    Returns:
        (K,) int64.

    Raises:
        ValueError: for no tokens, or tokens outside the codebook.

    Example:
        >>> count_tokens([[0, 2], [2, 2]], 4).tolist()
        [1, 0, 3, 0]
    """
    tokens = np.asarray(tokens).ravel()
    if not tokens.size or tokens.min() < 0 or tokens.max() >= codes or (tokens != np.rint(tokens)).any():
        received = f"{tokens.min()} to {tokens.max()}" if tokens.size else "none"
        raise ValueError(f"Expected whole tokens from 0 to {codes - 1}, received {received}.")
    return np.bincount(tokens.astype("int64"), minlength=codes)


def perplexity(counts: Tensor) -> Tensor:
    """exp of the entropy of shares, exp(-sum_k p_k ln p_k): as many codes, evenly used, would tell as much.

    Arguments:
        counts: (K,) uses of codes, counted or averaged.

    Returns:
        Scalar tensor from 1 to K.

    Example:
        >>> round(float(perplexity([5, 5, 0])), 3)
        2.0
    """
    counts = ops.cast(counts, "float32")
    share = counts / ops.sum(counts)
    return ops.exp(-ops.sum(share * ops.log(ops.maximum(share, 1e-30))))


def share_used(counts: np.ndarray) -> float:
    """Share of codes that occur at all, from `count_tokens`.

    Example:
        >>> share_used(count_tokens([0, 0, 3], 4))
        0.5
    """
    return float(np.mean(np.asarray(counts) > 0))
