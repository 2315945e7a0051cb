"""Mean light and its spread by kind of particle and energy: a smooth fit over a whole shower library."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from hepunits import GeV, MeV

from zdckeras.data.particles import species

PHOTON, NEUTRON, PROTON, KLONG, PIPLUS, PIMINUS = 22, 2112, 2212, 130, 211, -211
FITTED_KINDS = (PHOTON, NEUTRON, PROTON, KLONG, PIPLUS, PIMINUS)
SILENT = 0
MESONS = (KLONG, PIPLUS, PIMINUS)
REFERENCE = 200.0  # GeV, where the logarithm of the energy is zero
PROFILES = (0.06, 0.2)  # cells, widths of the Gaussians that describe how photons' light depends on the impact


@cache
def _kind(pdg):
    """Kind of one PDG id and the energy [GeV] that its mass takes from (-) or adds to (+) the shower."""
    particle = species(pdg)
    ident, mass = particle.pdgid, (particle.mass or 0.0) * MeV / GeV
    if abs(pdg) == 11 or pdg in (22, 111, 221):
        return PHOTON, 0.0
    if ident.is_lepton:
        return SILENT, 0.0
    if ident.is_baryon and not ident.is_nucleus or abs(pdg) in (2112, 2212):
        return (PROTON if particle.charge else NEUTRON), -mass if pdg > 0 else mass
    if ident.is_meson:
        return (KLONG if not particle.charge else PIPLUS if particle.charge > 0 else PIMINUS), 0.0
    raise ValueError(f"No showers stand for PDG id {pdg} ({particle.name}); expected photons, leptons or hadrons.")


def shower_kind(pdg: np.ndarray, energy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The kind of library shower that stands for each particle, and the energy E_s that it can put into a shower.

    Electrons, positrons and neutral pions shower like photons; baryons like neutrons or protons, by charge; mesons
    like K0L, pi+ or pi-. Muons, taus and neutrinos leave no light (kind 0). E_s is E - m for a baryon, E + m for an
    antibaryon, which annihilates, and E for all others.

    Arguments:
        pdg: (N,) PDG ids.
        energy: (N,) total energies [GeV].

    Returns:
        Kind (N,) and E_s (N,) [GeV], at least 0.

    Raises:
        ValueError: for an unknown id or a particle of another sort, such as a nucleus.

    Example:
        >>> kind, energy = shower_kind(np.array([3122, 11, -321, 13]), np.full(4, 100.0))
        >>> kind.tolist(), energy.round(2).tolist()
        ([2112, 22, -211, 0], [98.88, 100.0, 100.0, 100.0])
    """
    codes, inverse = np.unique(np.asarray(pdg, "int64"), return_inverse=True)
    kinds = [_kind(int(code)) for code in codes] or [(SILENT, 0.0)]
    kind, mass = np.array([k for k, _ in kinds])[inverse], np.array([m for _, m in kinds])[inverse]
    return kind, np.maximum(np.asarray(energy, "float64") + mass, 0.0)


def _profiles(offset):
    """Gaussians of the distance from the fibre, (N, len(PROFILES))."""
    return np.exp(-(offset**2).sum(axis=1)[:, None] / (2 * np.square(PROFILES)))


_GRID = (np.arange(64) + 0.5) / 64 - 0.5
CELL_MEAN = _profiles(np.stack(np.meshgrid(_GRID, _GRID), axis=-1).reshape(-1, 2)).mean(axis=0)


def _mean_design(group, kind, t, offset):
    """Columns of the mean response, and the inverse variances of the priors on their relative coefficients."""
    smooth = [np.ones_like(t), t, t**2]
    if group == "photon":
        return np.column_stack([*smooth, _profiles(offset) - CELL_MEAN]), np.zeros(3 + len(PROFILES))
    meson = np.isin(kind, MESONS)
    offsets = [kind == k for k in FITTED_KINDS if k != PHOTON]
    columns = np.stack([*smooth, meson, meson * t, *offsets], axis=1)
    return columns, np.array([0.0, 0.0, 0.0, 0.2**-2, 0.1**-2] + [0.05**-2] * len(offsets))


def _spread_design(group, kind, t):
    """Columns of the logarithm of the relative variance, and the inverse variances of the priors."""
    if group == "photon":
        return np.stack([np.ones_like(t), t], axis=1), np.zeros(2)
    return np.stack([np.ones_like(t), t, np.isin(kind, MESONS)], axis=1), np.array([0.0, 0.0, 0.3**-2])


@dataclass(frozen=True)
class ResponseFit:
    """Mean m(kind, E_s, u) of the light per GeV, and its relative spread s(kind, E_s).

    With t = log(E_s / 200 GeV) and u the impact relative to the fibre of its cell, photons:
    m = a0 + a1 t + a2 t^2 + sum_k g_k (exp(-u^2 / 2 w_k^2) - its mean over the cell). Hadrons, which hardly feel u,
    share a curve a0 + a1 t + a2 t^2; mesons add b0 + b1 t, and every kind a constant c_kind, each held near zero by a
    Gaussian prior that gives way where there are enough showers. log s^2 is linear in t, with a constant more for
    mesons. Mean (least squares, weights 1 / (m s)^2) and spread (Fisher scoring of the normal likelihood) are fitted
    in turn. Outside the energies of the library both stay as they are at its ends.

    Arguments:
        mean_parameters: coefficients for "photon" and "hadron" [photons per GeV].
        spread_parameters: coefficients for the same.
        reach: smallest and largest t of the library, for the same.

    Example:
        >>> energy = np.geomspace(20, 2000, 64)
        >>> kind = np.where(np.arange(64) % 2, PHOTON, NEUTRON)
        >>> light = energy * np.where(np.arange(64) % 4 < 2, 0.9, 1.1)
        >>> offset = np.random.default_rng(1).uniform(-0.5, 0.5, (64, 2))
        >>> fit = ResponseFit.fit(kind, energy, offset, light)
        >>> mean, spread = fit(np.array([PHOTON, NEUTRON]), np.array([100.0, 5.0]), np.full((2, 2), 0.3))
        >>> mean.round(1).tolist(), spread.round(1).tolist()
        ([1.0, 1.0], [0.1, 0.1])
    """

    mean_parameters: dict
    spread_parameters: dict
    reach: dict

    @classmethod
    def fit(cls, kind: np.ndarray, energy: np.ndarray, offset: np.ndarray, light: np.ndarray) -> "ResponseFit":
        """Fit showers of kind (N,), shower energy E_s (N,) [GeV], offset u (N, 2) [cells] and summed light (N,)."""
        mean, spread, reach = {}, {}, {}
        for group, which in (("photon", kind == PHOTON), ("hadron", kind != PHOTON)):
            if which.sum() < 8:
                raise ValueError(f"Expected at least 8 {group} showers in a library, received {which.sum()}.")
            t = np.log(energy[which] / REFERENCE)
            scale = (light[which] / energy[which]).mean()
            y = light[which] / energy[which] / scale
            columns, prior = _mean_design(group, kind[which], t, offset[which])
            wide, wide_prior = _spread_design(group, kind[which], t)
            expected, theta = np.ones_like(y), np.zeros(wide.shape[1])
            theta[0] = np.log(y.var())
            for _ in range(20):
                weighted = columns * (np.exp(-wide @ theta) / expected**2)[:, None]
                beta = np.linalg.solve(weighted.T @ columns + np.diag(prior), weighted.T @ y)
                expected = columns @ beta
                pull = (y / expected - 1) ** 2 * np.exp(-wide @ theta)
                theta += np.linalg.solve(wide.T @ wide / 2 + np.diag(wide_prior),
                                         wide.T @ (pull - 1) / 2 - wide_prior * theta)
            mean[group], spread[group], reach[group] = beta * scale, theta, (t.min(), t.max())
        return cls(mean, spread, reach)

    def __call__(self, kind, energy, offset):
        """Mean light per GeV of E_s, and relative spread, each (N,); arguments as in `fit`."""
        mean, spread = np.zeros(len(kind)), np.zeros(len(kind))
        for group, which in (("photon", kind == PHOTON), ("hadron", (kind != PHOTON) & (kind != SILENT))):
            with np.errstate(divide="ignore"):
                t = np.clip(np.log(energy[which] / REFERENCE), *self.reach[group])
            mean[which] = _mean_design(group, kind[which], t, offset[which])[0] @ self.mean_parameters[group]
            spread[which] = np.exp(_spread_design(group, kind[which], t)[0] @ self.spread_parameters[group] / 2)
        return mean, spread
