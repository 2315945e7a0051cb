"""Single arrivals: fresh draws of the reference simulation or those among own particles, their batches and scores."""

import numpy as np

from zdckeras.arguments import whole_number
from zdckeras.data.detectors import channel_sums, get_detector
from zdckeras.data.showers import Showers
from zdckeras.mapped import selected
from zdckeras.metrics.channels import wasserstein
from zdckeras.metrics.classifier import classifier_auc, pixel_auc
from zdckeras.modular.guns import gun_arrivals, gun_particles
from zdckeras.simulation.decays import branchings
from zdckeras.simulation.frozen import FrozenShowers
from zdckeras.simulation.gun import GUNS, PointShowers, draw_gun
from zdckeras.simulation.primaries import draw_primaries
from zdckeras.simulation.reference import Simulator
from zdckeras.simulation.response_fit import FITTED_KINDS, PHOTON, SILENT, shower_kind
from zdckeras.simulation.transport import transport
from zdckeras.training.batches import Batches

ARRIVAL = ("kind", "energy", "x", "y")
# Shares of the kinds that are drawn, in the order of FITTED_KINDS (photon, n, p, K0L, pi+, pi-).
SHARES = {"zn": (0.42, 0.38, 0.03, 0.11, 0.03, 0.03), "zp": (0.18, 0.08, 0.55, 0.03, 0.12, 0.04)}
ENERGIES = 3.0, 3400.0  # GeV, uniform in the logarithm
PRIMARIES_AT_ONCE = 20_000
PRIMARIES = {"zp": 0.0}  # share of a training's arrivals that primaries bring, elsewhere a half: nearly all of ZP's are
# protons at beam energy, and with a half of them showers were told by AUC 0.619 and 0.625, without by 0.584 +- 0.001
BEAM, BEAM_SHARE = (2300.0, 3000.0), 0.3  # where spectators are, and the share of nucleons drawn there


def draw_arrivals(detector: str, size: int, rng) -> dict:
    """Single particles on the face of a detector: kinds by share, energies log-uniform, impacts uniform; or its gun's.

    Arguments:
        detector: "zn", "zp", or one with a gun, see `zdckeras.simulation.gun.GUNS`.
        size: how many.
        rng: seed or NumPy generator.

    Returns:
        "kind" (index in FITTED_KINDS), "energy" that goes into the shower [GeV], "x", "y" [cm from the centre], each
        (size,); of a gun also "slope_x" and "slope_y".

    Raises:
        ValueError: for another detector, or a size below 0.

    Example:
        >>> arrivals = draw_arrivals("zn", 1000, 0)
        >>> bool(np.abs(arrivals["x"]).max() <= 3.52), bool(arrivals["energy"].min() >= 3.0)
        (True, True)
    """
    size = whole_number(size, "size", 0)
    if detector in GUNS:
        return gun_arrivals(detector, *draw_gun(detector, size, rng, repeated=0.0))
    if detector not in SHARES:
        raise ValueError(f"Expected a detector with single arrivals to draw, {', '.join([*SHARES, *GUNS])}; received "
                         f"{detector!r}.")
    rng = np.random.default_rng(rng)
    kind = rng.choice(len(FITTED_KINDS), size, p=SHARES[detector])
    energy = np.exp(rng.uniform(*np.log(ENERGIES), size))
    beam = np.isin(kind, [FITTED_KINDS.index(2112), FITTED_KINDS.index(2212)]) & (rng.random(size) < BEAM_SHARE)
    energy[beam] = rng.uniform(*BEAM, beam.sum())
    x, y = (rng.uniform(-h, h, size) for h in get_detector(detector).half_size)
    return {"kind": kind, "energy": energy, "x": x, "y": y}


def respond(detector: str, arrivals: dict, rng, showers: Simulator | None = None) -> np.ndarray:
    """Responses (N, nx, ny) of the reference simulation to single arrivals, empty ones included.

    Arguments:
        detector: name.
        arrivals: as from `draw_arrivals`.
        rng: seed or NumPy generator.
        showers: of another library than the packaged one: `FrozenShowers`, or `PointShowers` of a detector with a gun.
    """
    if detector in GUNS:
        return (showers or PointShowers(detector)).respond(*gun_particles(detector, arrivals), rng)
    showers = showers or FrozenShowers(detector)
    pdg = np.array(FITTED_KINDS)[arrivals["kind"]]
    lost = shower_kind(pdg, np.full(len(pdg), 1e4))[1] - 1e4  # what the mass takes away from the total energy
    total = arrivals["energy"] - lost
    return showers.respond(np.arange(len(pdg)), pdg, total, arrivals["x"], arrivals["y"], len(pdg), rng)


def simulated_arrivals(detector: str, size: int, rng) -> dict:
    """Single particles on the face of a detector, as primaries of the reference simulation bring them.

    Arguments, Returns: as `draw_arrivals`.

    Example:
        >>> arrivals = simulated_arrivals("zn", 1000, 0)
        >>> len(arrivals["kind"]), bool(abs(arrivals["x"][arrivals["energy"] > 2000]).mean() < 1.0)  # beam neutrons
        (1000, True)
    """
    size = whole_number(size, "size")
    if detector in GUNS:  # whose particles arrive as they started
        return draw_arrivals(detector, size, rng)
    rng, parts, found = np.random.default_rng(rng), [], 0
    while found < size:
        conditions, pdg = draw_primaries(PRIMARIES_AT_ONCE, rng, repeated=0)
        arrivals, _ = _showering(transport(conditions, pdg, rng, (detector,))[detector])
        seen = arrivals["energy"] > ENERGIES[0]
        parts.append({name: values[seen] for name, values in arrivals.items()})
        found += seen.sum()
    return {name: np.concatenate([part[name] for part in parts])[:size] for name in ARRIVAL}


def _showering(arrived):
    """Those of the `Arrivals` of the reference simulation that make a shower, and which primaries they are from."""
    kind, energy = shower_kind(arrived.pdg, arrived.energy)
    seen = (kind != SILENT) & (energy > 0)
    kind = np.array([FITTED_KINDS.index(k) for k in kind[seen]], "int64")
    return {"kind": kind, "energy": energy[seen], "x": arrived.x[seen], "y": arrived.y[seen]}, arrived.primary[seen]


def single_arrivals(showers: Showers, least: int = 1) -> tuple[dict, np.ndarray]:
    """The showers of particles that arrive as they started, as arrivals and responses: a user's own data to train on.

    Photons, nucleons and long-lived kaons fly straight, or bend by a known amount, and do not decay on the way. Where
    data have a photon cut, faint arrivals are missing, and a model of them is too bright there. Nuclei, and ids that
    are in no table, are left out.

    Arguments:
        showers: `Showers` of one detector.
        least: how many there have to be, such as the largest batch that a training takes of them.

    Returns:
        Arrivals, as from `draw_arrivals`, and their responses.

    Raises:
        ValueError: if there are fewer.
    """
    name = showers.detector().name
    codes, inverse = np.unique(showers.pdg, return_inverse=True)
    stable = np.flatnonzero(np.array([_arrives(int(code), name in GUNS) for code in codes])[inverse.reshape(-1)])
    particles, pdg = showers.particles[stable], showers.pdg[stable]
    if not len(stable):
        arrivals, rows = {}, stable
    elif name in GUNS:
        arrivals, rows = gun_arrivals(name, particles, pdg), stable
    else:
        arrivals, primary = _showering(transport(particles, pdg, 0, (name,))[name])
        rows = stable[primary]
    if len(rows) < max(least, 1):
        raise ValueError(f"Expected at least {max(least, 1)} particles that arrive in {name} as they started, received "
                         f"{len(rows) or 'none'} in {len(showers)}.")
    return arrivals, selected(showers.response, rows)


def _arrives(code, near):
    """Whether a species reaches a detector, near or far, as it started, and a kind of shower stands for it."""
    try:
        return shower_kind(np.array([code]), np.ones(1))[0][0] != SILENT and (near or not branchings(code))
    except ValueError:  # nuclei, and what is in no table
        return False


def beta_schedule(share: float, low: float = 0.03, start: float = 0.25, end: float = 0.6) -> float:
    """Weight of the divergence after a share of the training: low at first, then linearly to 1.

    Arguments:
        share: done of the training, 0 to 1.
        low: weight up to `start`.
        start, end: shares between which it rises.

    Example:
        >>> [round(float(beta_schedule(s)), 3) for s in (0.0, 0.25, 0.425, 0.6, 1.0)]
        [0.03, 0.03, 0.515, 1.0, 1.0]
    """
    return np.clip(low + (1.0 - low) * (share - start) / (end - start), low, 1.0)


class ArrivalBatches(Batches):
    """Batches of single arrivals with the latent noise "z" and the weight "beta"; by default drawn anew every epoch.

    Half of what is drawn covers all kinds, energies and impacts (`draw_arrivals`), half is what the primaries of the
    reference simulation bring (`simulated_arrivals`); of ZP the first kind alone.

    Arguments:
        detector: name.
        rows: arrivals in an epoch.
        epochs: of the whole training, which `beta_schedule` is stretched over.
        batch_size, seed: as in `Batches`.
        latent: numbers of the code.
        own: (arrivals, responses) to train on in place of fresh draws, see `single_arrivals`.
        showers: `FrozenShowers` of another library than the packaged one.
    """

    def __init__(self, detector, rows, epochs, batch_size=256, seed=0, latent=16, own=None, showers=None):
        self.name, self.fresh, self.epochs, self.showers = detector, own is None, epochs, showers
        self.own_seed = seed
        arrays = self._draw(0, rows) if own is None else {**own[0], "responses": own[1]}
        self.drawn = 0
        super().__init__(arrays, batch_size, seed, normal={"z": (latent,)})

    def _draw(self, epoch, rows):
        rng = np.random.default_rng([self.own_seed, 71, epoch])
        free = int((1.0 - PRIMARIES.get(self.name, 0.5)) * rows)
        parts = [draw_arrivals(self.name, free, rng)]
        if free < rows:
            parts.append(simulated_arrivals(self.name, rows - free, rng))
        arrivals = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return {**arrivals, "responses": respond(self.name, arrivals, rng, self.showers)}

    def start_epoch(self, epoch):
        """Draw the arrivals of an epoch, and fix order and noise."""
        if self.fresh and epoch != self.drawn:
            self.arrays, self.drawn = self._draw(epoch, self.rows), epoch
        super().start_epoch(epoch)

    def __getitem__(self, index):
        (batch,) = super().__getitem__(index)
        share = (self.epoch + index / max(len(self), 1)) / max(self.epochs, 1)
        batch["beta"] = np.full(len(batch["kind"]), beta_schedule(share), "float32")
        return (batch,)


def single_scores(arrivals: dict, real: np.ndarray, generated: np.ndarray, seed: int = 0, pairs: int = 7_000) -> dict:
    """WS of the channels, AUC of the shapes (all, photons, hadrons) and of the pixels, for single arrivals.

    Arguments:
        arrivals: see `draw_arrivals`.
        real, generated: (N, nx, ny) responses to them.
        seed, pairs: of the classifiers, see `zdckeras.metrics.classifier.pixel_auc`.

    Returns:
        "WS", "AUC", "AUC photons", "AUC hadrons", "AUC pixels"; NaN for a kind with fewer than 30 arrivals.
    """
    conditions = np.column_stack([np.log(v) if name == "energy" else v for name, v in arrivals.items()])
    photon = arrivals["kind"] == FITTED_KINDS.index(PHOTON)
    scores = {"WS": float(wasserstein(channel_sums(real), channel_sums(generated)).mean())}
    for name, rows in (("AUC", slice(None)), ("AUC photons", photon), ("AUC hadrons", ~photon)):
        few = len(real[rows]) < 30
        scores[name] = float("nan") if few else classifier_auc(real[rows], generated[rows], conditions[rows], seed)
    scores["AUC pixels"] = pixel_auc(real, generated, seed, pairs)
    return scores
