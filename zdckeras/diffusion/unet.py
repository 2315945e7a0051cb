"""The U-Net of the diffusion and flow-matching studies: residual blocks, attention, the particle as a token."""

import keras
import numpy as np
from keras import layers, ops

from zdckeras import backend
from zdckeras.arguments import whole_number
from zdckeras.backend import Tensor
from zdckeras.diffusion.networks import time_features
from zdckeras.layers.dense import products, seeds_of

PUBLISHED = dict(channels=4, multipliers=(2, 3, 4), blocks=2, heads=2, attention=(1,), clock=(-1.0, 1.0))
STUDY = dict(channels=16, multipliers=(1, 2, 4, 8), blocks=2, heads=4, attention=(2,), clock=(1000.0, -1.0))
SLOWEST = 1e-4  # of the falling frequencies, not reached


def falling_waves(times: Tensor, waves: int) -> Tensor:
    """cos(f_i t) and then sin(f_i t), f_i = 10^(-4 i / m), i = 0..m - 1, m = waves / 2, of times (B, 1): (B, waves).

    Source:
        Vaswani et al., arXiv:1706.03762, as in diffusers' `get_sinusoidal_embeddings`, which both studies have.

    Example:
        >>> waves = falling_waves(np.array([[2.0]], "float32"), 4)
        >>> ops.convert_to_numpy(waves).astype("float64").round(3).tolist()
        [[-0.416, 1.0, 0.909, 0.02]]
    """
    frequencies = SLOWEST ** (np.arange(waves // 2) / (waves // 2))
    angles = ops.multiply(times, frequencies.astype("float32"))
    return ops.concatenate([ops.cos(angles), ops.sin(angles)], axis=-1)


def _normal(deviation, seeds):
    return keras.initializers.RandomNormal(stddev=deviation, seed=next(seeds))


def _convolution(inputs, channels, seeds, size=3, stride=1, deviation=None):
    """A convolution without biases, built; normal weights, by default of variance 1 / inputs."""
    deviation = deviation or (size * size * inputs) ** -0.5
    layer = layers.Conv2D(channels, size, stride, "same", use_bias=False, kernel_initializer=_normal(deviation, seeds),
                          dtype="float32")
    layer.build((None, None, None, inputs))
    return layer


def _dense(inputs, units, seeds, deviation=None):
    """The same for a dense layer."""
    layer = layers.Dense(units, use_bias=False, kernel_initializer=_normal(deviation or inputs**-0.5, seeds),
                         dtype="float32")
    layer.build((None, inputs))
    return layer


def _norm(channels):
    layer = layers.LayerNormalization(epsilon=1e-6, dtype="float32")
    layer.build((None, channels))
    return layer


class ResidualBlock(layers.Layer):
    """x + C_2 silu(N (C_1 silu(N x) + silu(W t))), C convolutions 3 x 3, N over channels; x by 1 x 1 if they change.

    call((B, a, b, inputs), (B, told) of the time) gives (B, a, b, channels).
    """

    def __init__(self, inputs, channels, told, seeds):
        super().__init__(dtype="float32")
        self.norms = [_norm(inputs), _norm(channels)]
        self.first = _convolution(inputs, channels, seeds)
        self.time = _dense(told, channels, seeds)
        self.second = _convolution(channels, channels, seeds, deviation=1e-3 / channels)
        self.match = _convolution(inputs, channels, seeds, 1) if inputs != channels else None
        self.built = True

    def call(self, x, time):
        made = self.first(ops.silu(self.norms[0](x))) + ops.silu(self.time(time))[:, None, None]
        made = self.second(ops.silu(self.norms[1](made)))
        return made + (x if self.match is None else self.match(x))


class ParticleAttention(layers.Layer):
    """Attention between all cells and one token of the particle, added to the cells; `width` numbers a key.

    call((B, a, b, channels), (B, told) of the particle) gives (B, a, b, channels).
    """

    def __init__(self, channels, width, heads, told, seeds):
        super().__init__(dtype="float32")
        if width % whole_number(heads, "heads"):
            raise ValueError(f"Expected heads that divide the {width} numbers of an attention, received {heads}.")
        self.heads, self.each, self.width = heads, width // heads, width
        self.token, self.norm = _dense(told, channels, seeds), _norm(channels)
        self.look = [_dense(channels, width, seeds) for _ in range(3)]
        self.mix = _dense(width, channels, seeds, 0.2 * width**-0.5)
        self.built = True

    def call(self, x, particle):
        _, rows, columns, channels = x.shape
        length = rows * columns + 1
        tokens = ops.concatenate([self.token(particle)[:, None], ops.reshape(x, (-1, length - 1, channels))], axis=1)
        flat = ops.reshape(self.norm(tokens), (-1, channels))
        query, key, value = (ops.transpose(ops.reshape(look(flat), (-1, length, self.heads, self.each)), (0, 2, 1, 3))
                             for look in self.look)
        scores = ops.softmax(ops.matmul(query * self.each**-0.5, ops.transpose(key, (0, 1, 3, 2))))
        found = ops.transpose(ops.matmul(scores, value), (0, 2, 1, 3))
        tokens = tokens + ops.reshape(self.mix(ops.reshape(found, (-1, self.width))), (-1, length, channels))
        return ops.reshape(tokens[:, 1:], (-1, rows, columns, channels))


@keras.saving.register_keras_serializable("zdckeras")
class UNet(layers.Layer):
    """Images of any size, coarser level by level and back, each level told what the way down saw.

    Arguments:
        context: C numbers of the particle.
        channels: of the first convolution.
        multipliers: channels of the levels over that, from fine to coarse.
        blocks: residual blocks of a level, on either way.
        heads: of the attention.
        attention: levels where it stands before every block on the way down, and once more on the way up; it also
            stands before the blocks at the bottom.
        times: numbers n that say the time.
        seed: of the weights.
        clock: (a, b), if a time t is told by `falling_waves` of a t + b, for which n is 1; else by `time_features`.

    Returns:
        call((B, nx, ny), (B, n) times, (B, C)) gives (B, nx, ny).

    Raises:
        ValueError: for a clock and several times, an odd number of waves on it, or heads that do not divide the
            channels of every level with attention.

    Source:
        flow-matching study, arXiv:2507.18811, and its authors' code, m-wojnar/faster_zdc (`PUBLISHED`; its time runs
        from noise to data, its attention drops the first cell in place of the particle's token, and its weights begin
        smaller). The diffusion study's channels and levels (`STUDY`): its authors' code, m-wojnar/zdc, has diffusers'
        UNet2DConditionModel, 4.3 million weights by our count, with norms of groups, biases, three blocks a level on
        the way up, and behind a block attention of cells to each other and then to the particle, with dense layers.
        Ronneberger et al., arXiv:1505.04597; Ho et al., arXiv:2006.11239, appendix B.

    Example:
        >>> UNet(context=9).count_params()
        77372
    """

    def __init__(self, context, channels=4, multipliers=(2, 3, 4), blocks=2, heads=2, attention=(1,), times=1, seed=0,
                 clock=None, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.settings = dict(context=context, channels=channels, multipliers=tuple(multipliers), blocks=blocks,
                             heads=heads, attention=tuple(attention), times=times, seed=seed,
                             clock=None if clock is None else tuple(clock))
        seeds, waves, last = seeds_of([seed, 64]), channels * multipliers[0], len(multipliers) - 1
        told, self.waves, self.clock = 2 * waves, waves // times, self.settings["clock"]
        if clock is not None and (times != 1 or waves % 2):
            raise ValueError(f"Expected one time and an even number of waves beside a clock, received {times} and "
                             f"{waves}.")
        self.particle = [_dense(context, told, seeds), _dense(told, told, seeds)]
        self.time = [_dense(self.waves * times, told, seeds), _dense(told, told, seeds)]
        self.first, width, kept = _convolution(1, channels, seeds), channels, []
        self.parts, self.plan = [], []  # layers, and for each how it is used and on which level

        def add(use, level, size, attends=False):
            inputs = width + (kept.pop() if use == "up" else 0)
            self.parts.append(ParticleAttention(inputs, size, heads, told, seeds) if attends else
                              ResidualBlock(inputs, size, told, seeds))
            self.plan.append((use, level))
            if use == "down":
                kept.append(inputs if attends else size)
            return inputs if attends else size

        def resize(use, level):
            self.parts.append(_convolution(width, width, seeds, stride=2 if use == "shrink" else 1))
            self.plan.append((use, level))

        for level, factor in enumerate(multipliers):
            for attends in (*(True,) * (level in attention), False) * blocks:
                width = add("down", level, channels * factor, attends)
            if level < last:
                resize("shrink", level + 1)
        for attends in (False, *(True, False) * blocks):
            width = add("bottom", last, width, attends)
        for level in range(last, -1, -1):
            for attends in (*(True,) * (level in attention), False) * blocks:
                width = add("up", level, channels * multipliers[level], attends)
            if level:
                resize("grow", level - 1)
        self.norm, self.last = _norm(width), _convolution(width, 1, seeds, 1)
        self.built = True

    def call(self, x, times, context):
        particle = self.particle[1](ops.silu(self.particle[0](context)))
        waved = (time_features(times, self.waves) if self.clock is None else
                 falling_waves(self.clock[0] * times + self.clock[1], self.waves))
        time = self.time[1](ops.silu(self.time[0](waved)))
        x, kept = self.first(x[..., None]), []
        for (use, _), part in zip(self.plan, self.parts, strict=True):
            if use == "grow":
                _, rows, columns, _ = kept[-1].shape
                x = ops.repeat(ops.repeat(x, 2, axis=1), 2, axis=2)
                x = backend.cropped(part(x), rows, columns)
            elif use == "shrink":
                x = part(x)
            else:
                seen = ops.concatenate([kept.pop(), x], axis=-1) if use == "up" else x
                x = part(seen, particle if isinstance(part, ParticleAttention) else time)
            if use == "down":
                kept.append(x)
        return self.last(ops.silu(self.norm(x)))[..., 0]

    def cells(self, shape: tuple[int, int]) -> list[int]:
        """Cells of an image of nx x ny on every level."""
        return [int(np.prod([-(-n // 2**level) for n in shape])) for level in range(len(self.settings["multipliers"]))]

    def scores(self, shape: tuple[int, int]) -> int:
        """Scores of attention for one image of nx x ny: kept for the gradient, and of no layer of their own."""
        cells = self.cells(shape)
        return sum(part.heads * (cells[level] + 1) ** 2 for (_, level), part in zip(self.plan, self.parts, strict=True)
                   if isinstance(part, ParticleAttention))

    def operations(self, shape: tuple[int, int]) -> int:
        """Multiplications for one image of nx x ny, scores and sums of attention included."""
        cells = self.cells(shape)
        total = cells[0] * products(self.first, self.last)
        for (_, level), part in zip(self.plan, self.parts, strict=True):
            n = cells[level]
            if isinstance(part, ParticleAttention):
                total += n * products(*part.look, part.mix) + 2 * n * n * part.width
            elif isinstance(part, ResidualBlock):
                total += n * products(part.first, part.second, part.match)
            else:
                total += n * products(part)
        return total

    def get_config(self):
        return {**super().get_config(), **self.settings}
