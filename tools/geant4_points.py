"""Make showers with Geant4 as points of energy in a calorimeter without cells (needs the extra `geant4`).

    export GEANT4_DATA_DIR=/path/to/geant4/data
    python tools/geant4_points.py ecal ecal1.npz --seed 1 --showers 2000
    python tools/pack_points.py ecal ecal1.npz --output zdckeras/simulation/data/points_ecal.npz

Every particle hits the middle of a block far wider than the shower, at a right angle. What counts is the energy that is
deposited in the scintillator within 100 ns; deposits close to each other become one point at their centre of energy:
cubes of 2.5 mm near the axis, larger ones farther out, and slices in depth. Where such a shower lands in a detector,
how it is turned and which cells it lights is `zdckeras.simulation.gun`'s business.

With --slope TX the particles fly along (TX, 0, 1) instead. Such showers are not for a library: tools/check_points.py
compares them with turned ones.

Every shower has its own seed, made of --seed and its number: a run that is stopped and started again with the same
file goes on where it was, and ends with the same showers.

The blocks: `ecal`, the shashlik of LHCb: 66 layers of 2 mm lead and 4 mm polystyrene. `focalh`, a stand-in for ALICE's
FoCal-H: a fibre of 1 mm polystyrene every 2.5 mm in copper of 6.2 g/cm3 (tubes and the air between them as one),
110 cm. No wavelength shifting, attenuation, saturation or noise.
"""

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

import numpy as np
from geant4_showers import find_geant4, share, start

from zdckeras.data.atomic import atomic_path

GATE = 100.0  # ns
CUBE_RADII_MM, CUBE_SIZES_MM = (20.0, 60.0, 150.0), (2.5, 5.0, 10.0, 20.0)  # mm: up to which radius cubes of which size
SLICE_DEPTHS_MM = {"ecal": 36.0, "focalh": 110.0}  # mm
THIN = 6.0  # mm, slices of showers that come in at an angle: nobody turns these, so depth must not blur them
GUN_KINDS = {"ecal": {"e-": 1.0}, "focalh": {"pi+": 0.5, "proton": 0.5}}
ENERGIES = {"ecal": (1.0, 110.0), "focalh": (20.0, 350.0)}  # GeV
LEAD, TILE, LAYERS = 2.0, 4.0, 66  # mm
FIBRE, PITCH, COPPER, LENGTH = 0.5, 2.5, 6.2, 1100.0  # radius mm, mm, g/cm3, mm
HALF = 600.0  # mm, half width of the blocks


def merged(points, slice_):
    """Points (P, 4) of x, y, z [mm] and energy [MeV], near ones taken together at their centre of energy."""
    level = np.searchsorted(CUBE_RADII_MM, np.hypot(points[:, 0], points[:, 1]))
    size = np.array(CUBE_SIZES_MM)[level]
    key = np.column_stack([level, *np.floor(points[:, :2].T / size), np.floor(points[:, 2] / slice_)]).astype("int64")
    _, group = np.unique(key, axis=0, return_inverse=True)
    energy = np.bincount(group.ravel(), points[:, 3])
    return np.column_stack([*(np.bincount(group.ravel(), points[:, 3] * c) / energy for c in points[:, :3].T), energy])


def merged_along(points, slope, slice_):
    """`merged` around the line x = slope z, in place of the z axis."""
    shift = np.array([[slope, 0.0, 0.0, 0.0]])
    points = merged(points - points[:, 2:3] * shift, slice_)
    return points + points[:, 2:3] * shift


class Scintillator:
    """A block in Geant4, and the energy that one event leaves in its scintillator."""

    def __init__(self, g4, name, slope=0.0):
        self.g4, self.name, self.slope, self.points, self.kept = g4, name, slope, [], []
        self.depth = LAYERS * (LEAD + TILE) if name == "ecal" else LENGTH
        self.detector_construction = self._construction()

    def _construction(self):
        g4, outer = self.g4, self

        class Tiles(g4.G4VSensitiveDetector):
            def ProcessHits(self, step, history):
                energy = step.GetTotalEnergyDeposit()
                before = step.GetPreStepPoint()
                if energy > 0.0 and before.GetGlobalTime() < GATE:
                    a, b = before.GetPosition(), step.GetPostStepPoint().GetPosition()
                    outer.points.append((0.5 * (a.x + b.x), 0.5 * (a.y + b.y), 0.5 * (a.z + b.z), energy))
                return True

        class Construction(g4.G4VUserDetectorConstruction):
            def Construct(self):
                return outer.place()

            def ConstructSDandField(self):
                self.tiles = Tiles("tiles")
                g4.G4SDManager.GetSDMpointer().AddNewDetector(self.tiles)
                self.SetSensitiveDetector(outer.active, self.tiles)

        return Construction()

    def volume(self, solid, material):
        """A logical volume that Python keeps alive, as Geant4 does not."""
        logical = self.g4.G4LogicalVolume(solid, material, solid.GetName())
        self.kept += [solid, logical]
        return logical

    def put(self, logical, mother, z=0.0):
        """Place a volume in its mother."""
        placed = self.g4.G4PVPlacement(None, self.g4.G4ThreeVector(0, 0, z), logical, logical.GetName(), mother,
                                       False, 0)
        self.kept.append(placed)
        return placed

    def place(self):
        """The world with the block in it; returns the world."""
        g4, nist = self.g4, self.g4.G4NistManager.Instance()
        vacuum, plastic = (nist.FindOrBuildMaterial(name) for name in ("G4_Galactic", "G4_POLYSTYRENE"))
        world = self.volume(g4.G4Box("world", HALF + 50, HALF + 50, self.depth / 2 + 100), vacuum)
        placed = self.put(world, None)
        if self.name == "ecal":
            lead, thick = nist.FindOrBuildMaterial("G4_Pb"), LEAD + TILE
            block = self.volume(g4.G4Box("block", HALF, HALF, self.depth / 2), lead)
            layer = self.volume(g4.G4Box("layer", HALF, HALF, thick / 2), lead)
            self.active = self.volume(g4.G4Box("tile", HALF, HALF, TILE / 2), plastic)
            self.kept.append(g4.G4PVReplica("layer", layer, block, g4.kZAxis, LAYERS, thick))
            self.put(self.active, layer, (thick - TILE) / 2)
        else:
            copper = g4.G4Material("tubes", COPPER * g4.g / g4.cm3, 1)
            copper.AddElement(nist.FindOrBuildElement("Cu"), 1.0)
            block = self.volume(g4.G4Box("block", HALF, HALF, self.depth / 2), copper)
            column = self.volume(g4.G4Box("column", PITCH / 2, HALF, self.depth / 2), copper)
            cell = self.volume(g4.G4Box("cell", PITCH / 2, PITCH / 2, self.depth / 2), copper)
            self.active = self.volume(g4.G4Tubs("fibre", 0, FIBRE, self.depth / 2, 0, 2 * math.pi), plastic)
            number = int(2 * HALF / PITCH)
            self.kept += [g4.G4PVReplica("column", column, block, g4.kXAxis, number, PITCH),
                          g4.G4PVReplica("cell", cell, column, g4.kYAxis, number, PITCH)]
            self.put(self.active, cell)
        self.put(block, world)
        return placed

    def shower(self, x, y):
        """Points (P, 4) of the event, x and y from its point of impact, z from the front face; it is forgotten."""
        points = np.array(self.points, "float64").reshape(-1, 4) + (-x, -y, self.depth / 2, 0.0)
        self.points.clear()
        return merged_along(points, self.slope, THIN if self.slope else SLICE_DEPTHS_MM[self.name])


class Primaries:
    """Shower number i of a seed: always the same particle, point inside a fibre's cell, and random numbers."""

    def __init__(self, g4, block, options):
        self.options, self.kinds = options, list(options.kinds)
        self.shares = np.array(list(options.kinds.values())) / sum(options.kinds.values())
        primaries = self

        class Gun(g4.G4VUserPrimaryGeneratorAction):
            def __init__(self):
                super().__init__()
                self.gun = g4.G4ParticleGun(1)

            def GeneratePrimaries(self, event):
                name, energy, x, y = primaries.current
                particle = g4.G4ParticleTable.GetParticleTable().FindParticle(name)
                primaries.pdg = particle.GetPDGEncoding()
                self.gun.SetParticleDefinition(particle)
                self.gun.SetParticleEnergy(energy * g4.GeV - particle.GetPDGMass())
                self.gun.SetParticlePosition(g4.G4ThreeVector(x - options.slope, y, -block.depth / 2 - 1.0))
                self.gun.SetParticleMomentumDirection(g4.G4ThreeVector(options.slope, 0.0, 1.0).unit())
                self.gun.GeneratePrimaryVertex(event)

        class Actions(g4.G4VUserActionInitialization):
            def Build(self):
                self.gun = Gun()
                self.SetUserAction(self.gun)

        self.actions = Actions()

    def prepare(self, number):
        """Draw primary `number` and return the seed of its shower."""
        rng = np.random.default_rng([self.options.seed, number])
        kind = self.kinds[rng.choice(len(self.kinds), p=self.shares)]
        energy = float(np.exp(rng.uniform(*np.log(self.options.energy))))
        self.current = (kind, energy, *rng.uniform(-PITCH, PITCH, 2).tolist())
        return int(rng.integers(1, 2**31 - 1))


def earlier(path, wanted):
    """Showers that an earlier run with the same settings left: lists of points, primaries, seconds."""
    if not path.exists():
        return [], [], []
    with np.load(path, allow_pickle=False) as archive:
        found = archive["settings"].item() if "settings" in archive.files else "unknown ones"
        if found != wanted:
            raise SystemExit(f"Expected a new file or one made with the settings {wanted}; received {path}, made with "
                             f"{found}.")
        parts = np.split(archive["points"], np.cumsum(archive["counts"])[:-1])
        return parts, list(archive["primaries"]), list(archive["seconds"])


def save(path, points, rows, seconds, wanted):
    """Write everything so far."""
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, points=np.concatenate(points).astype("float32"),
                            counts=np.array([len(p) for p in points]), primaries=np.array(rows, "float64"),
                            seconds=np.array(seconds, "float32"), settings=np.array(wanted))


def main(arguments=None):
    """Shoot until the number of showers or the time is reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", choices=sorted(GUN_KINDS))
    parser.add_argument("output", type=Path, help="npz file to write or to continue")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--showers", type=int, default=sys.maxsize, help="stop when the file has so many")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after so long")
    parser.add_argument("--energy", type=float, nargs=2, metavar=("LOW", "HIGH"),
                        help="range of total energies [GeV], uniform in the logarithm")
    parser.add_argument("--slope", type=float, default=0.0, metavar="TX",
                        help="direction of incidence (TX, 0, 1) (default 0)")
    parser.add_argument("--kinds", type=share, nargs="+", metavar="NAME=SHARE",
                        help="Geant4's names of particles and their shares")
    parser.add_argument("--save-every", type=float, default=60.0, metavar="SECONDS")
    options = parser.parse_args(arguments)
    if options.showers == sys.maxsize and options.seconds == math.inf:
        parser.error("expected --showers N or --seconds S, received neither")
    options.energy = tuple(options.energy or ENERGIES[options.detector])
    if not 0.5 <= options.energy[0] < options.energy[1]:
        parser.error(f"expected 0.5 <= LOW < HIGH for --energy, received {options.energy}")
    options.kinds = dict(options.kinds or GUN_KINDS[options.detector])
    wanted = json.dumps({"detector": options.detector, "seed": options.seed, "energy": options.energy,
                         "kinds": options.kinds, "slope": options.slope})
    points, rows, seconds = earlier(options.output, wanted)
    g4 = find_geant4()
    block = Scintillator(g4, options.detector, options.slope)
    primaries = Primaries(g4, block, options)
    manager, _physics = start(g4, block, primaries)
    begun = saved = time.monotonic()
    first = len(rows)
    print(f"{options.output}: {first} showers so far", flush=True)
    while len(rows) < options.showers and time.monotonic() - begun < options.seconds:
        g4.G4Random.setTheSeed(primaries.prepare(len(rows)))
        clock = time.process_time()
        manager.BeamOn(1)
        points.append(block.shower(*primaries.current[2:]))
        seconds.append(time.process_time() - clock)
        rows.append((primaries.pdg, primaries.current[1]))
        if time.monotonic() - saved > options.save_every:
            save(options.output, points, rows, seconds, wanted)
            saved = time.monotonic()
            print(f"{options.output}: {len(rows)} showers, {(saved - begun) / (len(rows) - first):.2f} s each",
                  flush=True)
    save(options.output, points, rows, seconds, wanted)
    print(f"{options.output}: {len(rows)} showers", flush=True)
    os._exit(0)  # geant4_pybind crashes when Python takes it apart


if __name__ == "__main__":
    main()
