"""How long generators take for a batch of particles."""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from zdckeras.generators import Sampler

LONGEST = 10.0  # seconds of readings after which three must do


def milliseconds(groups: Mapping[str, Sequence["Sampler"]], conditions: ArrayLike, batch: int,
                 repeats: int = 15) -> dict[str, float]:
    """Median time that groups of generators take for one batch of the same particles, taking turns.

    Arguments:
        groups: name -> list of `Sampler`, called one after the other.
        conditions: (N, 9), repeated where N is less than the batch.
        batch: particles at once.
        repeats: calls of each, after one that compiles; fewer, but three, once they took 10 seconds.

    Returns:
        Name -> milliseconds for one batch, noise and its copy to the device included.
    """
    rng, times = np.random.default_rng(0), {name: [] for name in groups}
    rows = np.resize(np.asarray(conditions, "float32"), (batch, np.shape(conditions)[1]))
    for _ in range(repeats + 1):
        for name, group in groups.items():
            if len(times[name]) > 3 and sum(times[name][1:]) > 1e3 * LONGEST:
                continue
            begin = time.perf_counter()
            for generator in group:
                noise = rng.standard_normal((batch, generator.noise_width), "float32")
                generator.predict_on_batch({"conditions": rows, "noise": noise})
            times[name].append(1e3 * (time.perf_counter() - begin))
    return {name: float(np.median(values[1:])) for name, values in times.items()}
