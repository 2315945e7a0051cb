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
import json
import math
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zdckeras.data.atomic import atomic_path
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


def find_geant4():
    """Import geant4_pybind, or say what is missing."""
    data = os.environ.get("GEANT4_DATA_DIR")
    if not data or not Path(data).is_dir():
        raise SystemExit(
            f"Expected the folder of Geant4's data files in the environment variable GEANT4_DATA_DIR, received "
            f"{data!r}. Download the files for 11.4 (G4EMLOW, G4PARTICLEXS, G4ENSDFSTATE, PhotonEvaporation, ...) "
            f"from https://geant4.web.cern.ch/download and unpack them into one folder.")
    missing = [name for name in ("G4EMLOW", "G4PARTICLEXS", "G4ENSDFSTATE") if not any(Path(data).glob(name + "*"))]
    if missing:
        raise SystemExit(f"Expected Geant4's data files in {data}; received a folder without {', '.join(missing)}.")
    try:
        import geant4_pybind  # only after the variable is set: it looks for the data on import
    except ImportError:
        raise SystemExit("Expected the package geant4_pybind, received none: pip install 'zdckeras[geant4]'.") from None
    return geant4_pybind


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

    def light(self):
        """Expected photons per cell (nx, ny) of the event's steps, which are forgotten."""
        light = np.zeros(self.cells)
        if self.steps:
            x, y, beta, axis, charge, length, when = np.array(self.steps).T
            column = np.floor((x + self.half[0]) / self.pitch).astype(int)
            row = np.floor((y + self.half[1]) / self.pitch).astype(int)
            np.add.at(light, (column, row), photons(beta, axis, charge, length) * (when < GATE))
        self.steps.clear()
        return light


class Primaries:
    """Shower number i of a seed: always the same particle and the same Geant4 random numbers."""

    def __init__(self, g4, block, options, more_actions=tuple):
        self.block, self.options = block, options
        self.kinds, shares = zip(*options.kinds.items(), strict=True)
        self.shares = np.array(shares) / sum(shares)
        primaries = self

        class Gun(g4.G4VUserPrimaryGeneratorAction):
            def __init__(self):
                super().__init__()
                self.gun = g4.G4ParticleGun(1)

            def GeneratePrimaries(self, event):
                name, energy, x, y, tx, ty = primaries.current
                particle = g4.G4ParticleTable.GetParticleTable().FindParticle(name)
                primaries.pdg = particle.GetPDGEncoding()
                kinetic = energy * g4.GeV - particle.GetPDGMass()
                self.gun.SetParticleDefinition(particle)
                self.gun.SetParticleEnergy(kinetic)
                self.gun.SetParticlePosition(g4.G4ThreeVector(x, y, -block.length / 2 - 1.0))
                self.gun.SetParticleMomentumDirection(g4.G4ThreeVector(tx, ty, 1.0).unit())
                self.gun.GeneratePrimaryVertex(event)

        class Actions(g4.G4VUserActionInitialization):
            def Build(self):
                self.gun = Gun()
                self.more = more_actions()  # no action may be made before the physics list
                for action in (self.gun, *self.more):
                    self.SetUserAction(action)

        self.actions = Actions()

    def prepare(self, number):
        """Draw primary `number` and return the seed of its shower."""
        options, block = self.options, self.block
        rng = np.random.default_rng([options.seed, number])
        name = self.kinds[rng.choice(len(self.kinds), p=self.shares)]
        low, high = np.log(options.energy)
        reach = (block.pitch, block.pitch) if options.wide else block.half
        x, y = rng.uniform(-1, 1, 2) * reach
        self.current = (name, float(np.exp(rng.uniform(low, high))), float(x), float(y), *rng.normal(0, SLOPE, 2))
        return int(rng.integers(1, 2**31 - 1))


def start(g4, block, primaries):
    """A Geant4 run manager ready to shoot."""
    manager = g4.G4RunManagerFactory.CreateRunManager(g4.G4RunManagerType.Serial)
    physics = g4.FTFP_BERT()
    physics.SetVerboseLevel(0)
    manager.SetUserInitialization(block.detector_construction)
    manager.SetUserInitialization(physics)
    manager.SetUserInitialization(primaries.actions)
    commands = g4.G4UImanager.GetUIpointer()
    for command in ("/process/had/verbose 0", "/process/em/verbose 0", "/run/setCut 0.7 mm"):
        commands.ApplyCommand(command)
    manager.Initialize()
    for command in ("/physics_engine/neutron/energyLimit 1 MeV", "/physics_engine/neutron/timeLimit 200 ns"):
        commands.ApplyCommand(command)  # these act only after Initialize
    return manager, physics


def share(text):
    """A kind and its share out of NAME=SHARE."""
    name, _, number = text.partition("=")
    if not name or not float(number) > 0:
        raise ValueError(text)
    return name, float(number)


def settings(options, detector):
    """What must agree for showers to stand in one file, as JSON."""
    return json.dumps({"detector": detector.name, "wide": options.wide, "seed": options.seed, "energy": options.energy,
                       "kinds": options.kinds})


def earlier(path, wanted):
    """Showers that an earlier run with the same settings left in the file: lists of light, primaries, seconds."""
    if not path.exists():
        return [], [], []
    with np.load(path, allow_pickle=False) as archive:
        if "settings" not in archive.files or archive["settings"].item() != wanted:
            raise SystemExit(f"Expected a new file or one made with the settings {wanted}; received {path}, made with "
                             f"{archive['settings'].item() if 'settings' in archive.files else 'unknown ones'}.")
        return [list(archive[name]) for name in ("expected", "primaries", "seconds")]


def save(path, light, rows, seconds, wanted):
    """Write everything so far."""
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, expected=np.array(light, "float16"), primaries=np.array(rows, "float64"),
                            seconds=np.array(seconds, "float32"), settings=np.array(wanted))


def main(arguments=None):
    """Shoot until the number of showers or the time is reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", choices=sorted(ABSORBERS))
    parser.add_argument("output", type=Path, help="npz file to write or to continue")
    parser.add_argument("--wide", action="store_true",
                        help="library showers: block twice as wide, impact in the central 2x2 cells "
                             "(default: the real block, impact anywhere on its face)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--showers", type=int, default=sys.maxsize, help="stop when the file has so many")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after so long")
    parser.add_argument("--energy", type=float, nargs=2, default=(20.0, 2700.0), metavar=("LOW", "HIGH"),
                        help="range [GeV], uniform in the logarithm (default 20 2700)")
    parser.add_argument("--kinds", type=share, nargs="+", metavar="NAME=SHARE",
                        help="Geant4's names of particles and their shares (default: the mix of the detector)")
    parser.add_argument("--save-every", type=float, default=60.0, metavar="SECONDS")
    options = parser.parse_args(arguments)
    if options.showers == sys.maxsize and options.seconds == math.inf:
        parser.error("expected --showers N or --seconds S, received neither")
    if not 2.0 <= options.energy[0] < options.energy[1]:
        parser.error(f"expected 2 <= LOW < HIGH for --energy, received {options.energy}")
    detector = get_detector(options.detector)
    options.kinds = dict(options.kinds or ABSORBERS[detector.name].kinds)
    wanted = settings(options, detector)
    light, rows, seconds = earlier(options.output, wanted)
    g4 = find_geant4()
    block = Block(g4, detector, options.wide)
    primaries = Primaries(g4, block, options)
    manager, _physics = start(g4, block, primaries)
    begun = saved = time.monotonic()
    first = len(rows)
    print(f"{options.output}: {first} showers so far", flush=True)
    while len(rows) < options.showers and time.monotonic() - begun < options.seconds:
        g4.G4Random.setTheSeed(primaries.prepare(len(rows)))
        clock = time.process_time()
        manager.BeamOn(1)
        light.append(block.light().astype("float16"))
        seconds.append(time.process_time() - clock)
        rows.append((primaries.pdg, *primaries.current[1:]))
        if time.monotonic() - saved > options.save_every:
            save(options.output, light, rows, seconds, wanted)
            saved = time.monotonic()
            print(f"{options.output}: {len(rows)} showers, {(saved - begun) / (len(rows) - first):.1f} s each",
                  flush=True)
    save(options.output, light, rows, seconds, wanted)
    print(f"{options.output}: {len(rows)} showers", flush=True)
    os._exit(0)  # geant4_pybind crashes when Python takes it apart


if __name__ == "__main__":
    main()
