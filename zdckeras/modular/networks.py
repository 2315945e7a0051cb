"""Networks of a single arrival, in the frame of the cell it strikes: response to latent code, and code to light."""

import keras
import numpy as np
from keras import layers, ops

from zdckeras import backend
from zdckeras.data.detectors import get_detector
from zdckeras.layers.dense import linear, products, seeds_of, silu_layers
from zdckeras.modular.arrivals import ARRIVAL
from zdckeras.modular.cells import PhotonCells
from zdckeras.simulation.response_fit import FITTED_KINDS, MESONS, PHOTON

ORDERS = (1, 2, 3)  # of the Fourier terms of the place in the struck cell
MIXED = (1, 2)  # of their products
COARSE = 8  # cells along each side of the blocks whose sums the encoder sees
CODE_REACH = 8.0  # of a code's numbers, from 0: what decoders know; a prior's tails go further, without end
LEAST_ENERGY = 1e-3  # GeV
RINGS = (0.5, 1.2, 2.5, 4.5, 8.0, 14.0, 80.0)  # cells, outer radii of rings around the struck cell


@keras.saving.register_keras_serializable("zdckeras")
class ArrivalFeatures(layers.Layer):
    """Features of arrivals: kind, energy, where on the face, where in the struck cell.

    f = [ one-hot kind, l, l^2, l^3 / 4, l and l^2 of photons, l of mesons, (x, y) / half size, u,
          sin and cos of 2 pi k u (k = 1, 2, 3), their products in x and y (k = 1, 2), all of these again for photons ]

    with l = ln E - 5.8, cut at -4.5 and 3 (see `beyond`), and u in [-1/2, 1/2)^2 the place in the cell, measured from
    its fibre: it decides how much light of a photon the brightest fibres get.

    Arguments:
        detector: name.

    Returns:
        call((B,) kind, (B,) energy [GeV], (B,) x, (B,) y [cm]) gives features (B, `width`) and the
        struck cell (B, 2) int32, within the detector.

    Example:
        >>> features, cell = ArrivalFeatures("zn")(*np.array([[0], [100.0], [0.1], [-3.5]], "float32"))
        >>> tuple(features.shape), ops.convert_to_numpy(cell).tolist()
        ((1, 72), [[22, 0]])
    """

    INPUTS = ARRIVAL
    LOG = len(FITTED_KINDS)  # column of l
    MIDDLE = 5.8  # of ln(E / GeV), taken away
    REACH = -4.5, 3.0  # of l

    def __init__(self, detector, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.detector = get_detector(detector)
        periodic = 4 * len(ORDERS) + 4 * len(MIXED) ** 2
        self.width = len(FITTED_KINDS) + 6 + 2 + 2 + 2 * periodic
        self.built = True

    def call(self, kind, energy, x, y):
        shape, half = np.array(self.detector.shape), np.array(self.detector.half_size, "float32")
        place = ops.stack([ops.cast(x, "float32"), ops.cast(y, "float32")], axis=-1)
        position = ops.add(place / self.detector.pitch, (shape / 2).astype("float32"))
        cell = ops.clip(ops.floor(position), 0.0, (shape - 1).astype("float32"))
        u = position - cell - 0.5
        kinds = ops.one_hot(ops.cast(kind, "int32"), len(FITTED_KINDS), dtype="float32")
        photon = kinds[:, FITTED_KINDS.index(PHOTON) : FITTED_KINDS.index(PHOTON) + 1]
        meson = sum(kinds[:, FITTED_KINDS.index(k) : FITTED_KINDS.index(k) + 1] for k in MESONS)
        log = ops.clip(self._log(energy), *self.REACH)[:, None]
        square = log * log
        waves = {k: (ops.sin(2.0 * np.pi * k * u), ops.cos(2.0 * np.pi * k * u)) for k in ORDERS}
        periodic = [wave for k in ORDERS for wave in waves[k]]
        periodic += [a[:, :1] * b[:, 1:] for j in MIXED for k in MIXED for a in waves[j] for b in waves[k]]
        periodic = ops.concatenate(periodic, axis=-1)
        features = [kinds, log, square, 0.25 * square * log, photon * log, photon * square, meson * log,
                    ops.divide(place, half), u, periodic, photon * periodic]
        return ops.concatenate(features, axis=-1), ops.cast(cell, "int32")

    def _log(self, energy):
        return ops.log(ops.maximum(ops.cast(energy, "float32"), LEAST_ENERGY)) - self.MIDDLE

    def beyond(self, energy):
        """ln E beyond where it is cut, (B,), 0 within: what light in proportion to the energy has to be scaled by.

        Example:
            >>> found = ops.exp(ArrivalFeatures("zn").beyond(ops.convert_to_tensor([0.367, 100.0])))  # cut at 3.67 GeV
            >>> ops.convert_to_numpy(found).astype("float64").round(2).tolist()
            [0.1, 1.0]
        """
        log = self._log(energy)
        return log - ops.clip(log, *self.REACH)

    def get_config(self):
        return {**super().get_config(), "detector": self.detector.name}


class StruckFrame:
    """Cells of a frame centred on the struck cell, and how they lie on the detector.

    The frame has 2 n_x x 2 n_y cells, so that whatever cell is struck, every cell of the detector is in it. Its inner
    part, where most of the light is, is told apart from its rim: a network may give the one in full and the other by
    few numbers. Maps are stored as [inner cells, rim cells].

    Arguments:
        detector: name.
        inner: (a, b) cells of the inner part; at most the detector's.

    Example:
        >>> frame = StruckFrame("zn", inner=(44, 44))
        >>> frame.inner_cells, frame.rim_cells
        (1936, 5808)
    """

    def __init__(self, detector, inner=None):
        self.detector = get_detector(detector)
        nx, ny = self.detector.shape
        self.inner = tuple(inner or (min(nx, ny),) * 2)
        if not all(1 <= a <= n for a, n in zip(self.inner, (nx, ny), strict=True)):
            raise ValueError(f"Expected an inner part of 1 x 1 to {nx} x {ny} cells, received {self.inner}.")
        self.shape = 2 * nx, 2 * ny
        x, y = (np.arange(2 * n) - n for n in (nx, ny))  # from the struck cell
        within = [(i >= -(a // 2)) & (i < a - a // 2) for i, a in zip((x, y), self.inner, strict=True)]
        inside = np.outer(*within).reshape(-1)
        self.inner_cells, self.rim_cells = int(inside.sum()), int((~inside).sum())
        self.order = np.concatenate([np.flatnonzero(inside), np.flatnonzero(~inside)]).astype("int32")
        self.stored = np.empty(len(self.order), "int32")  # where in a stored map a cell of the frame is
        self.stored[self.order] = np.arange(len(self.order), dtype="int32")
        self.offset = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)  # cells from the struck one
        cx, cy = np.indices((nx, ny)).reshape(2, -1)
        self._cells = ((cx + nx) * 2 * ny + cy + ny).astype("int32")

    def stored_index(self, cell):
        """Where in stored maps (B, 4 D) the cells of the detector are, (B, D) int32, for struck cells (B, 2)."""
        first = cell[:, :1] * self.shape[1] + cell[:, 1:]
        return backend.rows_at(self.stored, ops.subtract(self._cells, first))

    @staticmethod
    def crop(maps, index):
        """Maps (B, S) read at an index (B, D) of each row: (B, D)."""
        start = ops.arange(ops.shape(maps)[0], dtype="int32")[:, None] * maps.shape[1]
        return backend.rows_at(ops.reshape(maps, (-1,)), index + start)

    def spread(self, responses, cell):
        """Responses (B, nx, ny) in the frame, (B, 2 nx, 2 ny), 0 beyond the detector, for struck cells (B, 2)."""
        rows, columns = (ops.one_hot(ops.subtract(np.arange(n, 2 * n, dtype="int32"), cell[:, k : k + 1]), 2 * n,
                                     dtype="float32") for k, n in enumerate(self.detector.shape))
        return backend.exact_matmul(backend.exact_matmul(ops.transpose(rows, (0, 2, 1)), responses), columns)


@keras.saving.register_keras_serializable("zdckeras")
class LightDecoder(layers.Layer):
    """Latent code and arrival to the expected light of every cell and its lumpiness: what `PhotonCells` wants.

    ln m = a + W [h, g] in the inner cells, a + V U [h, g] in the rim;   ln r = b_0 + b + s ln m, s in (0, 1)

    h = dense(z, f) and g = dense(f) are hidden vectors, f the `ArrivalFeatures`; a is the logarithm of the mean map of
    training responses (`fit_mean`), b a map made of f alone; b_0 and s are read from [h, g]. Maps are made in the
    `StruckFrame` and read where the detector is. Dense layers only: at batch 1 a convolution costs more than it saves.

    Arguments:
        detector: name.
        latent: numbers of the code.
        hidden: widths of h's two layers.
        known: width of g.
        rim: numbers that the rim is made of.
        rank: of W, by a layer of so many numbers before it; None: none, W is full. At batch 1 the time is that of
            reading the weights.
        seed: of the weights.

    Returns:
        call((B, latent), features (B, F), struck cell (B, 2)) gives ln m and ln r, each (B, D). Numbers of a code that
        lie beyond +-8 count as +-8: no encoder's mean is there, and a network that extrapolates makes hundreds of times
        the light of a particle.
    """

    FEATURES, CELLS = ArrivalFeatures, PhotonCells
    BRIGHTEST = 9.0  # ln m, at most
    NUMBERS = ((1.5, 0.5, -4.0, 8.0),)  # of cells beside m: before training b_0 and s, and what ln r lies between
    TOTALS = ()  # of the sum over all cells: before training, and what it lies between

    def __init__(self, detector, latent=16, hidden=(256, 320), known=192, rim=48, rank=None, seed=0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.settings = dict(detector=detector, latent=latent, hidden=tuple(hidden), known=known, rim=rim, rank=rank,
                             seed=seed)
        self.features, self.frame = self.FEATURES(detector), StruckFrame(detector)
        self.detector, self.latent, seeds, width = self.features.detector, latent, seeds_of([seed, 51]), latent
        width += self.features.width
        self.first = silu_layers(hidden[:1], width, seeds)
        self.second = silu_layers(hidden[1:], hidden[0] + width, seeds)
        self.known = silu_layers((known,), self.features.width, seeds)
        both = hidden[1] + known
        self.narrow = None if rank is None else linear(both, rank, seeds)
        self.inner = _faint(rank or both, self.frame.inner_cells, seeds)
        self.rim = linear(both, rim, seeds)
        self.outer = _faint(rim, self.frame.rim_cells, seeds)
        self.lumps = linear(both, 2 * len(self.NUMBERS) + len(self.TOTALS), seeds)
        self.lump_code = silu_layers((64,), self.features.width, seeds)
        self.lump_map = _faint(64, len(self.NUMBERS) * self.frame.inner_cells, seeds)
        self.mean = self.add_weight(shape=(len(self.frame.order),), initializer="zeros", trainable=False, name="mean")
        self.built = True

    def call(self, code, features, cell):
        given = ops.concatenate([ops.clip(code, -CODE_REACH, CODE_REACH), features], axis=-1)
        hidden = self.second(ops.concatenate([self.first(given), given], axis=-1))
        both = ops.concatenate([hidden, self.known(features)], axis=-1)
        inner = self.inner(both if self.narrow is None else self.narrow(both))
        maps = ops.concatenate([inner, self.outer(self.rim(both))], axis=-1)
        index = self.frame.stored_index(cell)
        log_mean = ops.minimum(self.frame.crop(maps + self.expected(features), index), self.BRIGHTEST)
        place, seen = ops.minimum(index, self.frame.inner_cells - 1), index < self.frame.inner_cells
        lumps, found = self.lump_map(self.lump_code(features)), []
        read = ops.split(self.lumps(both), 2 * len(self.NUMBERS) + len(self.TOTALS), axis=-1)
        for k, (born, slope, low, high) in enumerate(self.NUMBERS):
            lump = ops.where(seen, self.frame.crop(lumps, place + k * self.frame.inner_cells), 0.0)
            log = born + read[2 * k] + lump + (slope + 0.5 * ops.tanh(read[2 * k + 1])) * log_mean
            found.append(ops.clip(log, low, high))
        totals = zip(read[2 * len(self.NUMBERS) :], self.TOTALS, strict=True)
        return log_mean, *found, *(ops.clip(born + value, low, high) for value, (born, low, high) in totals)

    def expected(self, features):
        """The map a, (4 D,) or (B, 4 D), that is added to those of arrivals with these features (B, F)."""
        return self.mean

    def fit_mean(self, responses, features, cell):
        """Set a from training responses (N, nx, ny), and the features (N, F) and struck cells (N, 2) of their arrivals.
        """
        nx, ny = self.detector.shape
        total, seen = np.zeros((2, *self.frame.shape))
        for (i, j), counts in zip(ops.convert_to_numpy(cell), responses, strict=True):
            total[nx - i : 2 * nx - i, ny - j : 2 * ny - j] += counts
            seen[nx - i : 2 * nx - i, ny - j : 2 * ny - j] += 1
        self.mean.assign(np.log(total / np.maximum(seen, 1) + 1e-3).reshape(-1)[self.frame.order].astype("float32"))

    def operations(self):
        """Multiplications with a weight for one arrival."""
        return products(self.first, self.second, self.known, self.narrow, self.inner, self.rim, self.outer, self.lumps,
                        self.lump_code, self.lump_map)

    def get_config(self):
        return {**super().get_config(), **self.settings}


def _faint(inputs, units, seeds):
    """A dense layer with small weights, built: maps start at the mean map."""
    small = keras.initializers.RandomNormal(stddev=0.1 / np.sqrt(inputs), seed=next(seeds))
    layer = layers.Dense(units, kernel_initializer=small, dtype="float32")
    layer.build((None, inputs))
    return layer


@keras.saving.register_keras_serializable("zdckeras")
class ResponseEncoder(layers.Layer):
    """The response to a single arrival, and the arrival, to mean and ln of the deviation of its latent code.

    Seen in the `StruckFrame`: sqrt(n + 3/8) of the inner cells and of sums of 8 x 8 cells, photon number, centre, width
    and rings around the struck cell: what a dense layer would learn too late. Only training needs it.

    Arguments:
        detector, latent, seed: as in `LightDecoder`.
        hidden: widths of the two layers.

    Returns:
        call((B, nx, ny) photons, features (B, F), struck cell (B, 2)) gives two (B, latent), the means within +-8.
    """

    FEATURES = ArrivalFeatures

    def __init__(self, detector, latent=16, hidden=(512, 256), seed=0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.settings = dict(detector=detector, latent=latent, hidden=tuple(hidden), seed=seed)
        self.frame, seeds = StruckFrame(detector), seeds_of([seed, 52])
        width, blocks = self.FEATURES(detector).width, [n // COARSE for n in self.frame.shape]
        x, y = self.frame.offset.T.astype("float32")
        radius = np.hypot(x, y)
        rings = [(radius >= low) & (radius < high) for low, high in zip((0.0, *RINGS[:-1]), RINGS, strict=True)]
        self.moments = np.stack([np.ones_like(x), x, y, x * x + y * y, *rings], axis=1).astype("float32")
        self.numbers = self.frame.inner_cells + blocks[0] * blocks[1] + 4 + len(RINGS)
        self.first = silu_layers(hidden[:1], self.numbers + width, seeds)
        self.second = silu_layers(hidden[1:], hidden[0], seeds)
        self.read = _faint(hidden[1] + width, 2 * latent, seeds)
        self.built = True

    def call(self, responses, features, cell):
        seen = ops.concatenate([self.seen(responses, features, cell), features], axis=-1)
        hidden = ops.concatenate([self.second(self.first(seen)), features], axis=-1)
        mean, log_deviation = ops.split(self.read(hidden), 2, axis=-1)
        return CODE_REACH * ops.tanh(mean / CODE_REACH), ops.clip(log_deviation, -6.0, 1.0)

    def seen(self, responses, features, cell):
        """What is seen of responses, (B, `numbers`)."""
        frame = self.frame.spread(self.scaled(ops.cast(responses, "float32"), features), cell)
        flat = ops.reshape(frame, (-1, len(self.frame.order)))
        moments = backend.exact_matmul(flat, self.moments)
        total = moments[:, :1]
        centre, square = moments[:, 1:3] / ops.maximum(total, 1.0), moments[:, 3:4] / ops.maximum(total, 1.0)
        width = ops.sqrt(ops.maximum(square - ops.sum(centre * centre, axis=-1, keepdims=True), 0.0))
        summary = [self.size(total), centre / 2.0, width / 3.0, ops.log1p(moments[:, 4:]) / 3.0]
        rows, columns = (n // COARSE for n in self.frame.shape)
        blocks = ops.reshape(frame[:, : rows * COARSE, : columns * COARSE], (-1, rows, COARSE, columns, COARSE))
        blocks = ops.reshape(ops.sum(blocks, axis=(2, 4)), (-1, rows * columns))
        cells = ops.take(flat, self.frame.order[: self.frame.inner_cells], axis=1)
        return ops.concatenate([self.root(cells), self.root(blocks), *summary], axis=-1)

    def fit_scales(self, responses, features, cell):
        """Set scales from training responses and the features and struck cells of their arrivals: photons need none."""

    def scaled(self, responses, features):
        """Responses (B, nx, ny) as they are looked at, of arrivals with these features."""
        return responses

    def root(self, photons):
        """Numbers of cells on a scale on which they fluctuate alike."""
        return ops.sqrt(photons + 0.375)

    def size(self, total):
        """The sum of a response on such a scale."""
        return ops.log1p(total) - 5.0

    def get_config(self):
        return {**super().get_config(), **self.settings}
