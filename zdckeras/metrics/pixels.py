"""Pixel classifier two-sample test: what a small convolutional network sees that shower shapes do not."""

import keras
import numpy as np
from keras import layers
from sklearn.metrics import roc_auc_score

FOLDS = 2  # the pairs of one half judge the network trained on the other


def pixel_auc(real: np.ndarray, generated: np.ndarray, seed: int = 0, pairs: int = 7_000, epochs: int = 8) -> float:
    """Area under the ROC curve of a convolutional network that sees the photons of every cell.

    Three strided convolutions (16, 32, 32 channels) and a dense layer on ln(1 + n), trained on one half of the pairs
    and judged on the other, and the reverse; the result is the mean of the two areas. Both showers of a particle are in
    the same half. 0.5: the network cannot tell them apart. Its floor is the same function of a second simulation.

    Arguments:
        real, generated: (N, nx, ny) photon counts of the same conditions in the same order.
        seed: of the subsample, the halves and the weights.
        pairs: at most this many conditions are used, drawn at random.
        epochs: of each training, at batch 128.

    Returns:
        A number between 0 and 1.

    Raises:
        ValueError: for shapes that do not belong together, or fewer than 8 pairs.
    """
    real, generated = np.asarray(real), np.asarray(generated)
    if real.ndim != 3 or real.shape != generated.shape or len(real) < 8:
        raise ValueError(f"Expected real and generated of one shape (N, nx, ny) with at least 8 rows, received "
                         f"{real.shape} and {generated.shape}.")
    rows = np.random.default_rng(seed).permutation(len(real))[:pairs]
    areas = []
    for fold in range(FOLDS):
        held = np.arange(len(rows)) % FOLDS == fold
        parts = []
        for which in (rows[~held], rows[held]):
            images = np.log1p(np.concatenate([real[which], generated[which]]).astype("float32"))[..., None]
            parts.append((images, np.repeat([0.0, 1.0], len(which)).astype("float32")))
        (seen, labels), (unseen, truth) = parts
        network = _network(real.shape[1:], seed + fold)
        order = np.random.default_rng([seed, fold]).permutation(len(seen))
        network.fit(seen[order], labels[order], batch_size=min(128, len(seen)), epochs=epochs, verbose=0)
        areas.append(roc_auc_score(truth, network.predict(unseen, batch_size=512, verbose=0)[:, 0]))
    return float(np.mean(areas))


def _network(shape, seed):
    """The classifier, compiled."""
    initial = [keras.initializers.HeNormal(seed + 10 * k) for k in range(5)]
    network = keras.Sequential([keras.Input((*shape, 1))])
    for channels, start in zip((16, 32, 32), initial, strict=False):
        network.add(layers.Conv2D(channels, 4, 2, "same", activation="relu", kernel_initializer=start))
    network.add(layers.Flatten())
    network.add(layers.Dense(64, "relu", kernel_initializer=initial[3]))
    network.add(layers.Dense(1, "sigmoid", kernel_initializer=initial[4]))
    network.compile(keras.optimizers.Adam(1e-3), "binary_crossentropy")
    return network
