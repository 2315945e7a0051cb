"""Shower shapes seen along the particle's direction, their distances, and how well energy is measured."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from zdckeras.data.detectors import Detector, get_detector
from zdckeras.data.impact import impact_from_centre
from zdckeras.data.moments import Moments, cell_places, moment_weights
from zdckeras.data.particles import CONDITION_COUNT, MOMENTUM_COLUMNS
from zdckeras.metrics.channels import spreads, two_tables, wasserstein

# Symbols and units, in column order.
FLIGHT_OBSERVABLES = {
    "total": "total energy [MeV]",
    "response": "total energy / particle energy",
    "centre_x": "centre of gravity - impact, x [cells]",
    "centre_y": "centre of gravity - impact, y [cells]",
    "longitudinal": "longitudinal asymmetry",
    "transverse": "transverse asymmetry",
    "length": "rms along the flight [cells]",
    "width": "rms across the flight [cells]",
    "cells": "cells above threshold",
    "sparsity": "share of cells below threshold",
    "brightest": "share of the brightest cell",
}
CELL_THRESHOLD = 1.0  # MeV
RESOLUTION_BINS, SHOWERS_A_BIN = 8, 10  # of energy, and what each takes at least
LEAST_SHOWERS = RESOLUTION_BINS * SHOWERS_A_BIN


def directional_shapes(responses: np.ndarray, conditions: np.ndarray, detector: Detector | str,
                       threshold: float = CELL_THRESHOLD) -> np.ndarray:
    """Eleven shower-shape observables of each response, seen along the flight of its particle.

    With e_ij the energy in cell (i, j) at r_ij, S = sum e_ij, r_0 the expected impact on the front face, u the unit
    vector along (px, py) and v = (-u_y, u_x) across it:
    total S; response S / E; centre g - r_0 with g = sum e_ij r_ij / S; longitudinal asymmetry
    A_L = sum e_ij sign((r_ij - r_0) . u) / S, the energy ahead of the impact minus that behind it; transverse
    asymmetry A_T, the same with v; length sqrt(sum e_ij ((r_ij - g) . u)^2 / S) and width, the same with v; cells
    N = number of cells with e_ij > t; sparsity 1 - N / cells; brightest max e_ij / S.
    A response without energy has 0 everywhere and sparsity 1; where px = py = 0, u is the x axis.

    Arguments:
        responses: (N, nx, ny) energies [MeV], or photons.
        conditions: (N, 9).
        detector: `Detector` or its name.
        threshold: t [MeV].

    Returns:
        (N, 11) float64, columns in the order of `FLIGHT_OBSERVABLES`; lengths in cells.

    Raises:
        ValueError: for shapes that do not belong together or to the detector, values that are negative or not finite.

    Source:
        LHCb study, arXiv:1812.01319, figure 5.

    Example:
        >>> from zdckeras.data.particles import conditions_of
        >>> e = np.zeros((1, 30, 30)); e[0, 14:18, 15] = 2.0
        >>> c = conditions_of(np.array([11]), np.array([[1.0, 0.0, 9.0]]), np.array([[0.0, 1.0, 1250.0]]))
        >>> row = dict(zip(FLIGHT_OBSERVABLES, directional_shapes(e, c, "ecal")[0].round(3).tolist()))
        >>> row["total"], row["longitudinal"], row["transverse"], row["length"], row["cells"]
        (8.0, 0.5, 0.0, 1.118, 4.0)
    """
    responses, conditions, detector = np.asarray(responses), np.asarray(conditions, "float64"), get_detector(detector)
    if responses.shape[1:] != detector.shape or conditions.shape != (len(responses), CONDITION_COUNT):
        raise ValueError(f"Expected responses (N, {detector.shape[0]}, {detector.shape[1]}) and conditions "
                         f"(N, {CONDITION_COUNT}), received {responses.shape} and {conditions.shape}.")
    energy = responses.reshape(len(responses), -1).astype("float64")
    if not (np.isfinite(energy).all() and np.isfinite(conditions).all() and (energy >= 0).all()):
        raise ValueError("Expected finite conditions and finite, non-negative responses.")
    x, y = cell_places(detector.shape)
    impact = impact_from_centre(conditions, detector) / detector.pitch
    ahead = conditions[:, MOMENTUM_COLUMNS][:, :2]  # on either side, see `impact_from_centre`
    norm = np.linalg.norm(ahead, axis=1, keepdims=True)
    u = np.where(norm > 0, ahead / np.maximum(norm, 1e-300), (1.0, 0.0))
    v = np.stack([-u[:, 1], u[:, 0]], axis=1)
    moments = Moments(energy, moment_weights(detector.shape), least=np.finfo("float64").tiny)
    total, some = moments.total[:, 0], moments.some[:, 0]
    columns = [total, total / (1000.0 * np.maximum(conditions[:, 0], 1e-12)),
               np.where(moments.total > 0, moments.centre - impact, 0.0)]
    for axis in (u, v):
        side = np.sign((x - impact[:, :1]) * axis[:, :1] + (y - impact[:, 1:]) * axis[:, 1:])
        columns.append(np.einsum("nd,nd->n", energy, side) / some)
    columns += [np.sqrt(moments.along(axis[:, :1], axis[:, 1:])) for axis in (u, v)]
    cells = (energy > threshold).sum(axis=1)
    return np.column_stack([*columns, cells, 1.0 - cells / detector.cells, energy.max(axis=1) / some])


def sparsity(responses: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """Share of cells above each threshold, (N, T): s(t) = (1 / cells) sum_ij [e_ij > t].

    Arguments:
        responses: (N, nx, ny).
        thresholds: (T,) in the unit of the responses.

    Example:
        >>> sparsity(np.array([[[0.0, 2.0], [5.0, 0.0]]]), [1.0, 3.0]).tolist()
        [[0.5, 0.25]]
    """
    flat = np.asarray(responses).reshape(len(responses), -1)
    return np.stack([(flat > t).mean(axis=1) for t in thresholds], axis=1)


def separation_power(real: np.ndarray, generated: np.ndarray, bins: int = 50) -> np.ndarray:
    """Separation power of each column, S^2 = 1/2 sum_b (p_b - q_b)^2 / (p_b + q_b): 0 for alike, near 1 for disjoint.

    p and q are histograms of equal bins between the 0.1 and 99.9 percentiles of the real values, the outer bins
    holding what lies beyond, each summing to 1. Two samples of N from one distribution have about bins / (2 N). It
    judges energies; `zdckeras.metrics.shapes.separation_power`, of photon counts, has bins of equal content.

    Arguments:
        real, generated: (N, K) and (M, K).
        bins: number of bins.

    Returns:
        (K,).

    Raises:
        ValueError: for tables without rows, with different columns, or with values that are not finite.

    Source:
        CaloChallenge 2022, arXiv:2410.21611, section 5; 1/2 sum (p - q)^2 / (p + q) is the triangular discrimination.

    Example:
        >>> x = np.arange(100.0)[:, None]
        >>> separation_power(x, x).tolist(), separation_power(x, x + 1000).round(2).tolist()
        ([0.0], [0.94])
    """
    real, generated, found = *two_tables(real, generated), []
    for a, b in zip(real.T, generated.T, strict=True):
        low, high = np.percentile(a, (0.1, 99.9))
        edges = np.linspace(low, high if high > low else low + 1.0, bins + 1)
        p, q = (np.histogram(np.clip(v, edges[0], edges[-1]), edges)[0] / len(v) for v in (a, b))
        both = p + q
        found.append(0.5 * np.sum((p - q) ** 2 / np.where(both > 0, both, 1.0)))
    return np.array(found)


def directional_table(real: np.ndarray, generated: np.ndarray) -> dict[str, dict[str, float]]:
    """Separation power, and Wasserstein distance in real standard deviations, of every observable.

    Arguments:
        real, generated: (N, 11) and (M, 11) from `directional_shapes`.

    Returns:
        observable -> {"separation", "distance"}.
    """
    spread = spreads(real)
    distance = wasserstein(real, generated) / np.where(spread > 0, spread, 1.0)
    power = separation_power(real, generated)
    return {name: {"separation": float(power[k]), "distance": float(distance[k])}
            for k, name in enumerate(FLIGHT_OBSERVABLES)}


def energy_resolution(total: np.ndarray, energy: np.ndarray,
                      bins: int = RESOLUTION_BINS) -> dict[str, np.ndarray | float]:
    """How well the sum measures the energy: mean and spread of S / E in bins of E, and (s / E)^2 = a^2 / E + b^2.

    The spread is half the width of the central 68.3 % of S / E over their median; a and b are a non-negative
    least-squares fit to the bins.

    Arguments:
        total: (N,) sums of responses [MeV].
        energy: (N,) energies [GeV].
        bins: equally filled bins of energy.

    Returns:
        {"energy": (bins,) harmonic mean energies, "response": (bins,) medians of S / E, "resolution": (bins,) relative,
        "stochastic": a [sqrt(GeV)], "constant": b}.

    Raises:
        ValueError: for fewer than 10 showers a bin, sums that are negative or not finite, or energies not above 0.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> e = rng.uniform(20, 100, 40_000)
        >>> found = energy_resolution(1000 * e * (1 + 0.1 * rng.normal(size=40_000) / np.sqrt(e)), e)
        >>> round(found["stochastic"], 2), round(found["constant"], 2)
        (0.1, 0.0)
    """
    total, energy = np.asarray(total, "float64"), np.asarray(energy, "float64")
    if len(total) != len(energy) or len(total) < SHOWERS_A_BIN * bins:
        raise ValueError(f"Expected sums and energies of at least {SHOWERS_A_BIN * bins} showers, received "
                         f"{len(total)} and {len(energy)}.")
    if not (((total >= 0) & (total < np.inf)).all() and ((energy > 0) & (energy < np.inf)).all()):
        raise ValueError("Expected finite sums of at least 0 and finite energies above 0, received others.")
    parts = np.array_split(np.argsort(energy), bins)
    quantiles = np.array([np.quantile(total[rows] / (1000 * energy[rows]), (0.1585, 0.5, 0.8415)) for rows in parts])
    mean = np.array([1.0 / (1.0 / energy[rows]).mean() for rows in parts])
    median = np.maximum(quantiles[:, 1], 1e-12)
    resolution = (quantiles[:, 2] - quantiles[:, 0]) / 2 / median
    squares, _ = nnls(np.column_stack([1 / mean, np.ones(bins)]), resolution**2)
    a, b = np.sqrt(squares).tolist()
    return {"energy": mean, "response": median, "resolution": resolution, "stochastic": a, "constant": b}
