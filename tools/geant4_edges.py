"""Measure with Geant4 how much light a real edge takes from a shower (needs the extra `geant4`, as geant4_showers).

    python tools/geant4_edges.py zn --kind neutron --energy 40 --seconds 600

A library shower was made in a block that goes on beyond the detector's edge, so that particles which leave there may
come back. Here every step remembers how far out its particle, or any ancestor, has been before: light of a cell at
the depth c behind an edge at the distance d of the impact is lost if that went beyond. One run gives the light with
and without loss for many d at once, on all four sides. The share lost is fitted by

    a (1 + 4 d c / (r^2 + b^2))^-4,   r the distance of the cell to the impact,

which is what `zdckeras.simulation.frozen` takes away (EDGE_LOSS: a, b).
"""

import argparse
import os
import time

import numpy as np
from geant4_run import Primaries, find_geant4, start
from geant4_showers import ABSORBERS, GATE, INDEX, Block, draw, photons
from scipy.optimize import minimize

from zdckeras.command import positive, run, whole
from zdckeras.data.detectors import get_detector

EDGE_DISTANCES = np.array([0.5, 1, 2, 3, 4, 6, 9, 12, 15])  # cells between impact and edge
DEPTHS = np.array([0, 0.5, 1, 2, 3, 5, 8, 12, 20, 60])  # bins of c [cells]
ASIDE = np.array([0, 0.5, 1, 2, 4, 8, 16, 80])  # bins of the distance along the edge [cells]
SIDES = ((0, 1), (0, -1), (1, 1), (1, -1))  # axis and direction


class Excursions:
    """Per track, the times at which it, or an ancestor before its birth, went farther out than ever: x, -x, y, -y."""

    def __init__(self, g4):
        self.g4, self.tracks, self.current = g4, {}, None

    def actions(self):
        """What Geant4 has to call."""
        g4, excursions = self.g4, self

        class Tracking(g4.G4UserTrackingAction):
            def PreUserTrackingAction(self, track):
                place, born = track.GetVertexPosition(), track.GetGlobalTime()
                far = (place.x, -place.x, place.y, -place.y)
                for when, reached in reversed(excursions.tracks.get(track.GetParentID(), ())):
                    if when <= born + 1e-9:
                        far = tuple(map(max, far, reached))
                        break
                excursions.current = [(born, far)]
                excursions.tracks[track.GetTrackID()] = excursions.current

        class Stepping(g4.G4UserSteppingAction):
            def UserSteppingAction(self, step):
                after = step.GetPostStepPoint()
                place = after.GetPosition()
                here, far = (place.x, -place.x, place.y, -place.y), excursions.current[-1][1]
                if any(map(float.__gt__, here, far)):
                    excursions.current.append((after.GetGlobalTime(), tuple(map(max, here, far))))

        return Tracking(), Stepping()


class RememberingBlock(Block):
    """A block whose fibre steps carry how far out their particle has been."""

    def __init__(self, g4, detector, excursions):
        super().__init__(g4, detector, wide=True)
        block = self

        class Fibres(g4.G4VSensitiveDetector):
            def ProcessHits(self, step, history):
                before = step.GetPreStepPoint()
                beta = 0.5 * (before.GetBeta() + step.GetPostStepPoint().GetBeta())
                if before.GetCharge() == 0.0 or beta <= 1 / INDEX:
                    return False
                place = before.GetPosition()
                block.steps.append((place.x, place.y, beta, before.GetMomentumDirection().z, before.GetCharge(),
                                    step.GetStepLength(), before.GetGlobalTime(), *excursions.current[-1][1]))
                return True

        self.detector_construction.make_fibres = lambda: Fibres("fibres")

    def histogram(self, impact):
        """Light with and without what was lost, (2, edges, depths, aside), of the steps, which are forgotten."""
        result = np.zeros((2, len(EDGE_DISTANCES), len(DEPTHS) - 1, len(ASIDE) - 1))
        if self.steps:
            x, y, beta, axis, charge, length, when, *far = np.array(self.steps).T
            light = photons(beta, axis, charge, length) * (when < GATE)
            for side, (across, sign) in enumerate(SIDES):
                place, along = (x, y)[across], (x, y)[1 - across]
                aside = np.abs(along - impact[1 - across]) / self.pitch
                for k, edge in enumerate(sign * impact[across] + EDGE_DISTANCES * self.pitch):
                    depth = (edge - sign * place) / self.pitch
                    for row, kept in enumerate((depth > 0, (depth > 0) & (far[side] < edge))):
                        result[row, k] += np.histogram2d(
                            depth[kept], aside[kept], (DEPTHS, ASIDE), weights=light[kept])[0]
        self.steps.clear()
        return result


def fit(light, points=6):
    """Share a and range b [cells] that describe the loss best, the light inside a bin taken as uniform."""
    u = (np.arange(points) + 0.5) / points
    depth, aside = (edges[:-1, None] + np.diff(edges)[:, None] * u for edges in (DEPTHS, ASIDE))
    c, t, d = depth[None, :, None, :, None], aside[None, None, :, None, :], EDGE_DISTANCES[:, None, None, None, None]

    def loss(logarithms):
        a, b = np.exp(logarithms)
        near = (d - c) ** 2 + t**2 + b**2
        weight = near**-4
        return a * (weight * (1 + 4 * d * c / near) ** -4).sum(axis=(3, 4)) / weight.sum(axis=(3, 4))

    whole, kept = light / light[0].sum() * len(EDGE_DISTANCES)

    def distance(logarithms):
        return ((whole - kept - loss(logarithms) * whole) ** 2 / (0.05 * whole + 1e-4)).sum()

    best = minimize(distance, np.log([0.25, 2.5]), method="Nelder-Mead").x
    return np.exp(best), (loss(best) * light[0]).sum(axis=(1, 2)) / light[0].sum(axis=(1, 2))


def main(arguments=None):
    """Shoot for so long, then print the loss against the distance to the edge, and the fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", choices=sorted(ABSORBERS))
    parser.add_argument("--kind", default="neutron", help="Geant4's name of the particle")
    parser.add_argument("--energy", type=positive, default=40.0, help="total energy [GeV]")
    parser.add_argument("--seconds", type=positive, default=600.0)
    parser.add_argument("--seed", type=whole(0), default=1)
    options = parser.parse_args(arguments)
    options.wide, options.kinds, energy = True, {options.kind: 1.0}, options.energy
    options.energy = (energy, energy * 1.0001)
    g4 = find_geant4()
    excursions = Excursions(g4)
    block = RememberingBlock(g4, get_detector(options.detector), excursions)
    primaries = Primaries(g4, block.length, options, lambda rng: draw(rng, options, block),
                          more_actions=excursions.actions)
    manager, _physics = start(g4, block, primaries)
    light, begun, number = 0.0, time.monotonic(), 0
    while time.monotonic() - begun < options.seconds:
        seed = primaries.prepare(number)
        primaries.current = (options.kind, *primaries.current[1:4], 0.0, 0.0)
        g4.G4Random.setTheSeed(seed)
        excursions.tracks.clear()
        manager.BeamOn(1)
        light = light + block.histogram(primaries.current[2:4])
        number += 1
    (share, reach), fitted = fit(light)
    lost = 1 - light[1].sum(axis=(1, 2)) / light[0].sum(axis=(1, 2))
    shot = f"{options.detector}, {number} x {options.kind} of {energy:.0f} GeV"
    print(f"{shot}: share {share:.3f}, range {reach:.2f} cells")
    for edge, seen, described in zip(EDGE_DISTANCES, lost, fitted, strict=True):
        print(f"edge at {edge:4.1f} cells: light lost {seen:.3f}, fit {described:.3f}", flush=True)
    os._exit(0)


if __name__ == "__main__":
    run(main)
