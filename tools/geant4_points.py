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
import math

import numpy as np
from geant4_run import Primaries, RawShowers, add_arguments, find_geant4, parse, shoot

from zdckeras.command import run
from zdckeras.simulation.points import merge_points

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
    return merge_points(points, CUBE_RADII_MM, CUBE_SIZES_MM, (slice_,) * len(CUBE_SIZES_MM))


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

    def response(self, impact):
        """Points (P, 4) of the event, x and y from its point of impact, z from the front face; it is forgotten."""
        points = np.array(self.points, "float64").reshape(-1, 4) + (-impact[0], -impact[1], self.depth / 2, 0.0)
        self.points.clear()
        return merged_along(points, self.slope, THIN if self.slope else SLICE_DEPTHS_MM[self.name])


def draw(rng, options):
    """Energy [GeV], impact x, y inside a fibre's cell [mm] and slopes of one primary."""
    energy = float(np.exp(rng.uniform(*np.log(options.energy))))
    return energy, *rng.uniform(-PITCH, PITCH, 2).tolist(), options.slope, 0.0


def raw_points(options):
    """The file of showers that the options name."""
    settings = {"detector": options.detector, "seed": options.seed, "energy": options.energy, "kinds": options.kinds,
                "slope": options.slope}
    return RawShowers(options.output, settings, lambda points: {"points": np.concatenate(points).astype("float32"),
                                                                "counts": np.array([len(p) for p in points])},
                      lambda archive: np.split(archive["points"], np.cumsum(archive["counts"])[:-1]))


def main(arguments=None):
    """Shoot until the number of showers or the time is reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", choices=sorted(GUN_KINDS))
    parser.add_argument("--slope", type=float, default=0.0, metavar="TX",
                        help="direction of incidence (TX, 0, 1) (default 0)")
    add_arguments(parser)
    options = parse(parser, arguments, GUN_KINDS, ENERGIES, least=0.5)
    showers = raw_points(options)
    g4 = find_geant4()
    block = Scintillator(g4, options.detector, options.slope)
    primaries = Primaries(g4, block.depth, options, lambda rng: draw(rng, options), back=1.0)
    shoot(g4, block, primaries, showers, options, columns=1)


if __name__ == "__main__":
    run(main)
