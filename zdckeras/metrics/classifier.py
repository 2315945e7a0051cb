"""Classifier two-sample test: can a classifier tell generated showers from real ones?"""

from functools import lru_cache

import keras
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold

from zdckeras.metrics.shapes import SHAPE_OBSERVABLES, shapes

FOLDS = 3  # of pairs, real and generated; a classifier sees two and is judged on the third


def classifier_auc(real: np.ndarray, generated: np.ndarray, conditions: np.ndarray, seed: int = 0,
                   pairs: int = 20_000) -> float:
    """Area under the ROC curve of gradient-boosted trees that see shower shapes and the particle.

    0.5: the classifier cannot tell them apart; 1: it always can. Trees are trained on two thirds and judged on the
    other third, three times over; the result is the mean of the three areas. Both showers of one condition are always
    in the same third, otherwise the partner seen in training would give the answer away. The number is reported as it
    is: below 0.5 is a fluctuation. Its floor is the same function of real showers and a second simulation.

    Arguments:
        real: (N, nx, ny) photon counts.
        generated: (N, nx, ny) photon counts of the same conditions in the same order.
        conditions: (N, 9) conditions.
        seed: of the subsample, the folds and the trees.
        pairs: at most this many conditions are used, drawn at random.

    Returns:
        A number between 0 and 1.

    Raises:
        ValueError: for shapes that do not belong together, or fewer than 6 pairs.

    Source: Lopez-Paz and Oquab, arXiv:1610.06545.
    """
    areas = [roc_auc_score(label, trees.predict_proba(features)[:, 1])
             for trees, features, label in _judged_thirds(real, generated, conditions, seed, pairs)]
    return float(np.mean(areas))


def _judged_thirds(real, generated, conditions, seed, pairs):
    """For every third: trees that were trained on the rest, and its features (shapes, conditions) and labels."""
    real, generated, conditions = np.asarray(real), np.asarray(generated), np.asarray(conditions, "float64")
    if real.shape != generated.shape or conditions.ndim != 2 or len(conditions) != len(real):
        raise ValueError(
            f"Expected real and generated (N, nx, ny) and conditions (N, columns), received {real.shape}, "
            f"{generated.shape} and {conditions.shape}."
        )
    if min(len(real), pairs) < 2 * FOLDS:
        raise ValueError(f"A two-sample test needs at least {2 * FOLDS} pairs, received {min(len(real), pairs)}.")
    if len(real) > pairs:
        rows = np.sort(np.random.default_rng(seed).choice(len(real), pairs, replace=False))
        real, generated, conditions = real[rows], generated[rows], conditions[rows]
    pair = np.tile(np.arange(len(real)), 2)
    features = np.column_stack([np.concatenate([shapes(real), shapes(generated)]), conditions[pair]])
    label = np.repeat([0, 1], len(real))
    for seen in _folds(len(real), seed):
        train, test = np.flatnonzero(seen[pair]), np.flatnonzero(~seen[pair])
        leaf = min(20, max(1, len(train) // 10))  # scikit-learn's 20; fewer showers than 40 could not be split by it
        trees = HistGradientBoostingClassifier(early_stopping=False, random_state=seed, min_samples_leaf=leaf)
        yield trees.fit(features[train], label[train]), features[test], label[test]


def _folds(pairs, seed):
    """For every third: which of so many pairs a classifier is trained on, as booleans; the others judge it."""
    for train, _ in KFold(FOLDS, shuffle=True, random_state=seed).split(np.zeros(pairs)):
        yield np.isin(np.arange(pairs), train)


def shape_importance(real: np.ndarray, generated: np.ndarray, conditions: np.ndarray, seed: int = 0,
                     pairs: int = 20_000) -> dict[str, float]:
    """What gives generated showers away: how much the area of `classifier_auc` falls when one observable is shuffled.

    Arguments:
        real, generated, conditions, seed, pairs: as in `classifier_auc`.

    Returns:
        Observable of `zdckeras.metrics.shapes.SHAPE_OBSERVABLES` -> fall, the largest first.

    Raises:
        ValueError: as `classifier_auc`.

    Source: Breiman, Machine Learning 45 (2001) 5, section 10.
    """
    falls, rng = {name: [] for name in SHAPE_OBSERVABLES}, np.random.default_rng(seed)
    for trees, features, label in _judged_thirds(real, generated, conditions, seed, pairs):
        area = roc_auc_score(label, trees.predict_proba(features)[:, 1])
        for column, name in enumerate(SHAPE_OBSERVABLES):
            mixed = features.copy()
            mixed[:, column] = rng.permutation(mixed[:, column])
            falls[name].append(area - roc_auc_score(label, trees.predict_proba(mixed)[:, 1]))
    return dict(sorted(((name, float(np.mean(fall))) for name, fall in falls.items()), key=lambda pair: -pair[1]))


def species_auc(real: np.ndarray, generated: np.ndarray, conditions: np.ndarray, pdg: np.ndarray,
                codes: dict[str, int], seed: int = 0) -> dict[str, float]:
    """`classifier_auc` for each species by itself: a classifier that is trained on one finds what differs there.

    Arguments:
        real, generated, conditions, seed: as in `classifier_auc`.
        pdg: (N,) PDG ids.
        codes: name -> PDG id.

    Returns:
        Name -> area; NaN for a species with fewer than 30 particles.
    """
    areas = {}
    for name, code in codes.items():
        rows = np.flatnonzero(np.asarray(pdg) == code)
        few = len(rows) < 30
        areas[name] = float("nan") if few else classifier_auc(real[rows], generated[rows], conditions[rows], seed)
    return areas


def pixel_auc(real: np.ndarray, generated: np.ndarray, seed: int = 0, pairs: int = 7_000, epochs: int = 6) -> float:
    """Area under the ROC curve of a convolutional network that sees the photons of every cell.

    Three strided convolutions (16, 32, 32 channels) and a dense layer on ln(1 + n), trained on two thirds of the pairs
    and judged on the other third, three times over, as the trees of `classifier_auc` are; the result is the mean of the
    three areas. Both showers of a particle are in the same third. 0.5: the network cannot tell them apart. Its floor is
    the same function of a second simulation.

    Arguments:
        real, generated: (N, nx, ny) photon counts of the same conditions in the same order.
        seed: of the subsample, the thirds and the weights.
        pairs: at most this many conditions are used, drawn at random.
        epochs: of each training, in batches of 64 pairs.

    Returns:
        A number between 0 and 1.

    Raises:
        ValueError: for shapes that do not belong together, fewer than 8 pairs, or counts that are negative or not
            finite.
    """
    real, generated = np.asarray(real), np.asarray(generated)
    if real.ndim != 3 or real.shape != generated.shape or min(len(real), pairs) < 8:
        raise ValueError(f"Expected real and generated of one shape (N, nx, ny) with at least 8 rows, received "
                         f"{real.shape} and {generated.shape}, of which at most {pairs} are used.")
    for name, part in (("real", real), ("generated", generated)):
        if not ((part >= 0) & (part < np.inf)).all():
            raise ValueError(f"Expected finite, non-negative photon counts, received others in {name} responses.")
    rows = np.random.default_rng(seed).permutation(len(real))[:pairs]
    (network, begin), areas = _network(real.shape[1:], seed), []
    for fold, train in enumerate(_folds(len(rows), seed)):
        for variables, values in zip((network.weights, network.optimizer.variables), begin, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        seen, unseen = rows[train], rows[~train]
        size = min(64, len(seen))  # pairs in a batch; what is left of an epoch is dropped
        rng = np.random.default_rng([seed, fold])
        for _ in range(epochs):
            order = rng.permutation(seen)
            for start in range(0, len(order) - size + 1, size):
                network.train_on_batch(*_labelled(real, generated, order[start : start + size]))
        images, truth = _labelled(real, generated, unseen)
        areas.append(roc_auc_score(truth, network.predict(images, batch_size=512, verbose=0)[:, 0]))
    return float(np.mean(areas))


def _labelled(real, generated, rows):
    """ln(1 + n) of real and generated images of some rows, and 0 and 1."""
    images = np.log1p(np.concatenate([real[rows], generated[rows]]).astype("float32"))[..., None]
    return images, np.repeat([0.0, 1.0], len(rows)).astype("float32")


@lru_cache(maxsize=4)
def _network(shape, seed):
    """The classifier, compiled once for all that it judges, and how its weights and its optimizer begin; in float32
    whatever the policy: what is judged does not change its judge."""
    initial = [keras.initializers.HeNormal(seed + 10 * k) for k in range(5)]
    network, single = keras.Sequential([keras.Input((*shape, 1))]), {"dtype": "float32"}
    for channels, start in zip((16, 32, 32), initial, strict=False):
        network.add(keras.layers.Conv2D(channels, 4, 2, "same", activation="relu", kernel_initializer=start, **single))
    network.add(keras.layers.Flatten(**single))
    network.add(keras.layers.Dense(64, "relu", kernel_initializer=initial[3], **single))
    network.add(keras.layers.Dense(1, "sigmoid", kernel_initializer=initial[4], **single))
    network.compile(keras.optimizers.Adam(1e-3), "binary_crossentropy")
    network.optimizer.build(network.trainable_variables)
    return network, [[keras.ops.convert_to_numpy(v) for v in part]
                     for part in (network.weights, network.optimizer.variables)]
