"""The shipped generator: transport, a code and a light map for every arrival, the maps added, photons drawn last."""

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from zdckeras import backend
from zdckeras.arguments import real_numbers, seed_numbers, whole_number
from zdckeras.data.particles import warn_of_no_species
from zdckeras.generators import RangedSampler, WithParts
from zdckeras.layers.photon_drawing import CERTAIN, EDGE, CellNoise, normal_quantile, uniform_of_normal
from zdckeras.modular.networks import LightDecoder
from zdckeras.modular.transport import Transport
from zdckeras.simulation.response_fit import FITTED_KINDS


@keras.saving.register_keras_serializable("zdckeras")
class ModularGenerator(WithParts, RangedSampler):
    """Transport times response: a particle's arrivals, the light of each, and over-dispersed photons of their sum.

    a_1..a_k = transport(c),   z_i ~ p(z | a_i),   m = sum_i m(z_i, a_i),   m^2 / r = sum_i m_i^2 / r_i,
    n ~ Poisson(m G(r))

    The sum of the lumpy light of several arrivals has the mean and the variance of that sum; energies, where those are
    read out, are drawn in its place (`zdckeras.modular.cells`). Arrivals of a whole batch
    are lined up, so that particles without any cost nothing and those with several cost no more than they have.

    Arguments:
        transport: `Transport`; `StraightFlight` to a detector with a gun.
        prior: `LatentPrior`: the student, which samples in one pass, or the teacher, which is exact as well; or a
            `zdckeras.diffusion.latent.DiffusionPrior`.
        decoder: `LightDecoder` or `EnergyDecoder`.
        low, high: see `RangedSampler`.
        noise: numbers of standard normal noise that come in, from which `CellNoise` makes all others; 10 is what ALICE
            O2 hands over. 0: all numbers come in.

    Returns:
        call({"conditions": (B, 9), "noise": (B, noise_width), "pdg": (B,) if known}) gives (B, nx, ny) photons or
        energies [MeV], and so does call({"kind", "energy", "x", "y" (B,), "codes" (B, latent),
        "uniform" (B, `drawn`)}) of single arrivals.

    Raises:
        ValueError: for no decoder, or parts of different detectors or codes.
    """

    PARTS = ("transport", "prior", "decoder")
    TAKES_IDS = True

    def __init__(self, transport: Transport, prior: keras.Model, decoder: LightDecoder, low: ArrayLike, high: ArrayLike,
                 noise: int = 10, **kwargs: Any):
        super().__init__(low, high, **kwargs)
        if not isinstance(decoder, LightDecoder):
            raise ValueError(f"Expected a LightDecoder, which makes light of codes; received {decoder!r}.")
        if transport.detector != decoder.detector or prior.settings["latent"] != decoder.latent:
            raise ValueError(f"Expected parts of one detector and one latent code, received {transport.detector.name} "
                             f"and {decoder.detector.name}, {prior.settings['latent']} and {decoder.latent} numbers.")
        self.transport, self.prior, self.decoder, self.noise = transport, prior, decoder, noise
        self.detectors, self.settings = [decoder.detector], dict(noise=noise)
        self.codes = transport.slots * decoder.latent
        self.drawn = decoder.CELLS.DRAWS * decoder.detector.cells + decoder.CELLS.DRAWN
        self.numbers = transport.numbers + self.codes + self.drawn
        self.noise_width = noise or self.numbers
        self.cell_noise = CellNoise(self.numbers, noise, 17) if noise else None
        self.edge = EDGE if noise else CERTAIN
        self.jit_compile = backend.jit_sampling()
        self.built = True

    def checked(self, conditions):
        values = super().checked(conditions)
        warn_of_no_species(values, level=3)
        return values

    def _uniform(self, noise):
        """Uniform numbers of the transport, normal ones of the codes, uniform ones of the cells."""
        start, end = self.transport.numbers, self.transport.numbers + self.codes
        if self.noise:
            uniform = self.cell_noise(noise)
            return uniform[:, :start], normal_quantile(uniform[:, start:end]), uniform[:, end:]
        return uniform_of_normal(noise[:, :start]), noise[:, start:end], uniform_of_normal(noise[:, end:])

    def generate(self, noise, conditions, pdg=None):
        conditions = ops.cast(conditions, "float32")
        flight, codes, cells = self._uniform(ops.cast(noise, "float32"))
        light = self.light(self.transport(conditions, flight, pdg), codes)
        return self._drawn(light, cells, self.edge)

    def _drawn(self, light, uniform, edge=CERTAIN):
        """Responses (B, nx, ny) of `light`."""
        return ops.reshape(self.decoder.CELLS.draw(*light, uniform, edge), (-1, *self.decoder.detector.shape))

    def light(self, arrivals, codes):
        """What the cells are drawn from, (B, D) each (expected light m and shape r), of `Arrivals` (B, A) with code
        noise (B, A latent).

        Where an experiment has its own transport, this is where its arrivals come in.
        """
        rows, slots = ops.shape(arrivals[0])[0], arrivals[0].shape[1]
        kind, *rest = (ops.reshape(value, (-1,)) for value in arrivals)
        codes, cells = ops.reshape(codes, (-1, self.decoder.latent)), self.decoder.CELLS

        def maps(one):
            """What adds up over arrivals, of one arrival each, (M, parts D)."""
            told = [backend.rows_at(values, one) for values in (kind, *rest)]
            features, cell = self.decoder.features(*told)
            code = self.prior.generate(backend.rows_at(codes, one), features)
            log_mean, *others = self.decoder(code, features, cell)
            beyond = self.decoder.features.beyond(told[1])[:, None]  # of the energies that networks know
            return cells.parts(ops.minimum(log_mean + beyond, self.decoder.BRIGHTEST), *others)

        if backend.is_compact():
            one = backend.positions(kind >= 0)
            return cells.whole(backend.added_rows(rows, one // slots, maps(one)))
        there = ops.cast(kind >= 0, "int32")
        order = ops.argsort(1 - there)  # those that are there first
        total = ops.sum(there)

        def add(chunk, added):
            place = chunk * rows + ops.arange(rows, dtype="int32")
            one = backend.rows_at(order, ops.minimum(place, rows * slots - 1))
            particle = ops.where(place < total, one // slots, rows)  # beyond the last, of none
            return chunk + 1, added + ops.segment_sum(maps(one), particle, rows + 1)[:rows]

        dark = ops.zeros((rows, cells.PARTS * self.decoder.detector.cells + cells.SHARED), "float32")
        _, added = ops.while_loop(lambda chunk, _: chunk * rows < total, add, (ops.zeros((), "int32"), dark))
        return cells.whole(added)

    def respond(self, arrivals: dict, seed: int = 0, batch_size: int = 256) -> np.ndarray:
        """Photons of single arrivals, for an experiment that has its own transport.

        Arguments:
            arrivals: "kind" (index in `zdckeras.simulation.response_fit.FITTED_KINDS`), "energy" that goes into the
                shower [GeV], "x", "y" [cm from the centre], and of a gun's particles "slope_x", "slope_y", (N,) each;
                what misses the face leaves nothing.
            seed, batch_size: as in `sample`.

        Returns:
            (N, nx, ny) uint16 photons or float32 energies [MeV].

        Raises:
            ValueError: unless there are finite numbers for each of them, of known kinds and positive energies; and as
                `sample`.
        """
        known = self.decoder.features.INPUTS
        inputs = {name: real_numbers(arrivals[name] if name in arrivals else "", name) for name in known}
        shape, kind = inputs["kind"].shape, inputs["kind"]
        if (len(shape) != 1 or any(values.shape != shape or not np.isfinite(values).all() for values in inputs.values())
                or not np.isin(kind, np.arange(-1, len(FITTED_KINDS))).all() or (inputs["energy"] <= 0).any()):
            raise ValueError(f"Expected (N,) finite {', '.join(known)}, kinds from -1 to {len(FITTED_KINDS) - 1} and "
                             f"positive energies [GeV]; received shapes {[v.shape for v in inputs.values()]}.")

        def noise(rng, rows):
            codes = rng.standard_normal((rows, self.decoder.latent), "float32")
            cells = rng.uniform(1e-7, 1.0 - 1e-7, (rows, self.drawn))
            return {"codes": codes, "uniform": cells}

        missed = np.any([np.abs(inputs[axis]) >= half for axis, half in
                         zip("xy", self.decoder.detector.half_size, strict=True)], axis=0)
        inputs["kind"] = np.where(missed, -1, kind)
        inputs, batch_size = {k: v.astype("float32") for k, v in inputs.items()}, whole_number(batch_size, "batch_size")
        return self._gather(inputs, seed_numbers(seed), batch_size, noise)[self.decoder.detector.name]

    def call(self, inputs):
        if "kind" not in inputs:
            return self.generate(inputs["noise"], inputs["conditions"], inputs.get("pdg"))
        kind, *rest = (inputs[name][:, None] for name in self.decoder.features.INPUTS)
        light = self.light((ops.cast(kind, "int32"), *rest), inputs["codes"])
        return self._drawn(light, ops.cast(inputs["uniform"], "float32"))

    def operations(self) -> int:
        """Multiplications with a weight for one particle that arrives as it started."""
        return self.decoder.operations() + self.prior.operations()

    def get_config(self):
        return {**super().get_config(), **self.parts_config(), **self.settings}
