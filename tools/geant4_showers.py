"""Make single-particle showers with Geant4 in a calorimeter of quartz fibres (needs the extra `geant4`).

    export GEANT4_DATA_DIR=/path/to/geant4/data
    python tools/geant4_showers.py zn showers.npz --wide --seed 1 --seconds 3600
    python tools/pack_showers.py zn showers.npz --add --output zdckeras/simulation/data/showers_zn.npz

Every shower has its own seed, made of --seed and its number: a run that is stopped and started again with the same
file goes on where it was, and ends with the same showers. Runs side by side need different seeds and files.

Light: Cherenkov photons of 2 to 4 eV (Frank and Tamm) that a fibre of numerical aperture 0.22 traps along
meridional rays, times a quantum efficiency of 20 %, within 100 ns. No cladding, attenuation or dead material: the
absolute scale is arbitrary.
"""

import argparse
import math
from dataclasses import dataclass

import numpy as np
from geant4_run import Primaries, RawShowers, add_arguments, find_geant4, parse, shoot

from zdckeras.command import run
from zdckeras.data.detectors import get_detector

INDEX, APERTURE, EFFICIENCY, GATE = 1.46, 0.22, 0.2, 100.0  # gate in ns
PHOTONS_PER_MM = 36.98 * (4.0 - 2.0) * EFFICIENCY  # 370 per cm and eV for sin^2 = 1 and unit charge
SLOPE = 2e-4  # spread of the directions of incidence


@dataclass(frozen=True)
class Absorber:
    """What surrounds the fibres: density [g/cm3] and mass fractions; and the particles worth simulating there."""

    density: float
    elements: dict
    kinds: dict


ABSORBERS = {
    "zn": Absorber(17.6, {"W": 0.93, "Ni": 0.04, "Fe": 0.03},
                   {"neutron": 0.40, "gamma": 0.35, "kaon0L": 0.10, "proton": 0.05, "pi+": 0.05, "pi-": 0.05}),
    "zp": Absorber(8.48, {"Cu": 0.63, "Zn": 0.37},
                   {"proton": 0.50, "pi+": 0.20, "gamma": 0.15, "neutron": 0.10, "pi-": 0.05}),
}


def photons(beta, axis, charge, length):
    """Trapped photo-electrons of steps: z^2 sin^2(theta) l times the trapped share of the Cherenkov cone.

    A photon is trapped if its angle to the fibre is below asin(NA / n). Of the cone of half-angle theta,
    cos(theta) = 1 / (n beta), around a particle at cosine a to the fibre, that is the share
    acos((c - a cos(theta)) / (sqrt(1 - a^2) sin(theta))) / pi with c = sqrt(1 - (NA / n)^2), the argument clipped.
    """
    cosine = np.minimum(1.0 / (INDEX * beta), 1.0)
    sine2 = 1.0 - cosine**2
    needed = math.sqrt(1.0 - (APERTURE / INDEX) ** 2) - axis * cosine
    across = np.sqrt(np.maximum((1.0 - axis**2) * sine2, 1e-18))
    trapped = np.arccos(np.clip(needed / across, -1.0, 1.0)) / np.pi
    return PHOTONS_PER_MM * charge**2 * sine2 * length * trapped


class Block:
    """The calorimeter in Geant4, and the light of one event in it."""

    def __init__(self, g4, detector, wide):
        self.detector, self.g4 = detector, g4
        self.cells = tuple(n * (2 if wide else 1) for n in detector.shape)
        self.pitch, self.length = detector.pitch * 10, detector.length * 10  # mm
        self.half = tuple(n * self.pitch / 2 for n in self.cells)
        self.steps = []
        self.detector_construction = self._construction()

    def _construction(self):
        g4, block = self.g4, self
        threshold = 1.0 / INDEX

        class Fibres(g4.G4VSensitiveDetector):
            """Notes every step of a charged particle above threshold; the arithmetic waits for the event's end."""

            def ProcessHits(self, step, history):
                before = step.GetPreStepPoint()
                charge = before.GetCharge()
                if charge == 0.0:
                    return False
                beta = 0.5 * (before.GetBeta() + step.GetPostStepPoint().GetBeta())
                if beta <= threshold:
                    return False
                place = before.GetPosition()
                block.steps.append((place.x, place.y, beta, before.GetMomentumDirection().z, charge,
                                    step.GetStepLength(), before.GetGlobalTime()))
                return True

        class Construction(g4.G4VUserDetectorConstruction):
            def Construct(self):
                return block._place(self)

            def make_fibres(self):
                return Fibres("fibres")

            def ConstructSDandField(self):
                self.fibres = self.make_fibres()
                g4.G4SDManager.GetSDMpointer().AddNewDetector(self.fibres)
                self.SetSensitiveDetector(block.fibre, self.fibres)

        return Construction()

    def _place(self, keep):
        """Columns, cells, and a fibre in the middle of each cell, inside a vacuum world."""
        g4, absorber = self.g4, ABSORBERS[self.detector.name]
        nist = g4.G4NistManager.Instance()
        metal = g4.G4Material("absorber", absorber.density * g4.g / g4.cm3, len(absorber.elements))
        for element, share in absorber.elements.items():
            metal.AddElement(nist.FindOrBuildElement(element), share)
        (hx, hy), hz, hp = self.half, self.length / 2, self.pitch / 2
        keep.alive = []  # Geant4 does not own what Python made

        def volume(solid, material):
            logical = g4.G4LogicalVolume(solid, material, solid.GetName())
            keep.alive += [solid, logical]
            return logical

        def place(logical, mother):
            placed = g4.G4PVPlacement(None, g4.G4ThreeVector(), logical, logical.GetName(), mother, False, 0)
            keep.alive.append(placed)
            return placed

        vacuum, quartz = (nist.FindOrBuildMaterial(name) for name in ("G4_Galactic", "G4_SILICON_DIOXIDE"))
        world = volume(g4.G4Box("world", hx + 50, hy + 50, hz + 100), vacuum)
        block = volume(g4.G4Box("block", hx, hy, hz), metal)
        column = volume(g4.G4Box("column", hp, hy, hz), metal)
        cell = volume(g4.G4Box("cell", hp, hp, hz), metal)
        self.fibre = volume(g4.G4Tubs("fibre", 0, self.detector.fibre_radius * 10, hz, 0, 2 * math.pi), quartz)
        placed = place(world, None)
        place(block, world)
        keep.alive += [g4.G4PVReplica("column", column, block, g4.kXAxis, self.cells[0], self.pitch),
                       g4.G4PVReplica("cell", cell, column, g4.kYAxis, self.cells[1], self.pitch)]
        place(self.fibre, cell)
        return placed

    def response(self, _impact):
        """Expected photons per cell (nx, ny) of the event's steps, which are forgotten; float16."""
        light = np.zeros(self.cells)
        if self.steps:
            x, y, beta, axis, charge, length, when = np.array(self.steps).T
            column = np.floor((x + self.half[0]) / self.pitch).astype(int)
            row = np.floor((y + self.half[1]) / self.pitch).astype(int)
            np.add.at(light, (column, row), photons(beta, axis, charge, length) * (when < GATE))
        self.steps.clear()
        return light.astype("float16")


def draw(rng, options, block):
    """Energy [GeV], impact x, y [mm] and slopes of one primary."""
    low, high = np.log(options.energy)
    reach = (block.pitch, block.pitch) if options.wide else block.half
    x, y = rng.uniform(-1, 1, 2) * reach
    return float(np.exp(rng.uniform(low, high))), float(x), float(y), *rng.normal(0, SLOPE, 2)


def raw_showers(options):
    """The file of showers that the options name."""
    settings = {"detector": options.detector, "wide": options.wide, "seed": options.seed, "energy": options.energy,
                "kinds": options.kinds}
    return RawShowers(options.output, settings, lambda light: {"expected": np.array(light, "float16")},
                      lambda archive: archive["expected"])


def main(arguments=None):
    """Shoot until the number of showers or the time is reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", choices=sorted(ABSORBERS))
    parser.add_argument("--wide", action="store_true",
                        help="library showers: block twice as wide, impact in the central 2x2 cells "
                             "(default: the real block, impact anywhere on its face)")
    add_arguments(parser)
    options = parse(parser, arguments, {name: absorber.kinds for name, absorber in ABSORBERS.items()},
                    dict.fromkeys(ABSORBERS, (20.0, 3400.0)), least=2.0)
    showers = raw_showers(options)
    g4 = find_geant4()
    block = Block(g4, get_detector(options.detector), options.wide)
    primaries = Primaries(g4, block.length, options, lambda rng: draw(rng, options, block))
    shoot(g4, block, primaries, showers, options, columns=5)


if __name__ == "__main__":
    run(main)
