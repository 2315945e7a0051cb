"""What the tools that shoot with Geant4 share: a gun, a run that repeats, and files that it goes on with."""

import json
import math
import os
import sys
import time
from pathlib import Path

import numpy as np

from zdckeras.command import positive, whole
from zdckeras.data.atomic import atomic_path, is_npz, open_npz


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
    except ModuleNotFoundError:
        raise SystemExit("Expected the package geant4_pybind, received none: pip install 'zdckeras[geant4]'.") from None
    except ImportError as error:  # without a display its system libraries may be missing
        raise SystemExit(f"Expected the package geant4_pybind and what it is linked with (libGL, libSM, libICE), "
                         f"received: {error}.") from None
    return geant4_pybind


def add_arguments(parser, file="npz file to write or to continue"):
    """Add the arguments that all tools which shoot have; `file` says what the one they name is."""
    parser.add_argument("output", type=Path, metavar="file", help=file)
    parser.add_argument("--seed", type=whole(0), default=1)
    parser.add_argument("--showers", type=whole(1), default=sys.maxsize, help="stop when the file has so many")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after so long")
    parser.add_argument("--energy", type=float, nargs=2, metavar=("LOW", "HIGH"),
                        help="range of total energies [GeV], uniform in the logarithm (default: that of the detector)")
    parser.add_argument("--kinds", type=share, nargs="+", metavar="NAME=SHARE",
                        help="Geant4's names of particles and their shares (default: the mix of the detector)")
    parser.add_argument("--save-every", type=positive, default=60.0, metavar="SECONDS")


def share(text):
    """A kind and its share out of NAME=SHARE."""
    name, _, number = text.partition("=")
    if not name or not float(number) > 0:
        raise ValueError(text)
    return name, float(number)


def parse(parser, arguments, kinds, energies, least):
    """Parsed arguments, with a detector's own kinds and energies where none are given.

    Arguments:
        parser: with "detector" and what `add_arguments` adds.
        arguments: list of words, or None for the command line.
        kinds, energies: detector -> name -> share, and (low, high) [GeV].
        least: energy [GeV] below which nothing is shot.
    """
    options = parser.parse_args(arguments)
    if options.showers == sys.maxsize and options.seconds == math.inf:
        parser.error("expected --showers N or --seconds S, received neither")
    options.energy = tuple(options.energy or energies[options.detector])
    if not least <= options.energy[0] < options.energy[1]:
        parser.error(f"expected {least:g} <= LOW < HIGH for --energy, received {options.energy}")
    options.kinds = dict(options.kinds or kinds[options.detector])
    return options


class Primaries:
    """Shower number i of a seed: always the same particle and the same Geant4 random numbers.

    Arguments:
        g4: Geant4.
        depth: of the block [mm], whose middle is the origin; particles start 1 mm before its front face.
        options: seed, and kinds (name -> share).
        draw: function of a NumPy generator that gives energy [GeV], impact x, y [mm] and slopes tx, ty.
        back: mm along z from where a particle starts to where it is at (x, y).
        more_actions: function that makes further actions; none may be made before the physics list.
    """

    def __init__(self, g4, depth, options, draw, back=0.0, more_actions=tuple):
        self.seed, self.draw, self.kinds = options.seed, draw, list(options.kinds)
        self.shares = np.array(list(options.kinds.values())) / sum(options.kinds.values())
        primaries = self

        class Gun(g4.G4VUserPrimaryGeneratorAction):
            def __init__(self):
                super().__init__()
                self.gun = g4.G4ParticleGun(1)

            def GeneratePrimaries(self, event):
                name, energy, x, y, tx, ty = primaries.current
                particle = g4.G4ParticleTable.GetParticleTable().FindParticle(name)
                primaries.pdg = particle.GetPDGEncoding()
                self.gun.SetParticleDefinition(particle)
                self.gun.SetParticleEnergy(energy * g4.GeV - particle.GetPDGMass())
                self.gun.SetParticlePosition(g4.G4ThreeVector(x - back * tx, y - back * ty, -depth / 2 - 1.0))
                self.gun.SetParticleMomentumDirection(g4.G4ThreeVector(tx, ty, 1.0).unit())
                self.gun.GeneratePrimaryVertex(event)

        class Actions(g4.G4VUserActionInitialization):
            def Build(self):
                self.gun = Gun()
                self.more = more_actions()
                for action in (self.gun, *self.more):
                    self.SetUserAction(action)

        self.actions = Actions()

    def prepare(self, number):
        """Draw primary `number` and return the seed of its shower."""
        rng = np.random.default_rng([self.seed, number])
        kind = self.kinds[rng.choice(len(self.kinds), p=self.shares)]
        self.current = (kind, *self.draw(rng))
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


class RawShowers:
    """The showers of one file, with those that an earlier run with the same settings left there.

    Arguments:
        path: npz file.
        settings: what must agree for showers to stand in one file; plain values that JSON can hold.
        pack: function of a list of responses that gives arrays by name.
        unpack: function of the open file that gives the list of responses.

    Attributes:
        responses, primaries, seconds: lists with one element for each shower; primaries begin with PDG id and energy.

    Raises:
        SystemExit: for a file with other settings.
    """

    def __init__(self, path, settings, pack, unpack):
        self.path, self.settings, self.pack = path, json.dumps(settings), pack
        self.responses, self.primaries, self.seconds = [], [], []
        if path.exists():
            if not is_npz(path):
                raise SystemExit(f"Expected a new file or one of this tool, received {path}, no npz archive.")
            with open_npz(path) as archive:
                found = archive["settings"].item() if "settings" in archive.files else "unknown ones"
                if found != self.settings:
                    raise SystemExit(f"Expected a new file or one made with the settings {self.settings}; received "
                                     f"{path}, made with {found}.")
                self.responses = list(unpack(archive))
                self.primaries, self.seconds = list(archive["primaries"]), list(archive["seconds"])

    def __len__(self):
        return len(self.responses)

    def add(self, response, primary, seconds):
        """Append one shower."""
        self.responses.append(response)
        self.primaries.append(primary)
        self.seconds.append(seconds)

    def save(self):
        """Write everything so far."""
        with atomic_path(self.path) as temporary:
            np.savez_compressed(temporary, **self.pack(self.responses), primaries=np.array(self.primaries, "float64"),
                                seconds=np.array(self.seconds, "float32"), settings=np.array(self.settings))


def shoot(g4, block, primaries, showers, options, columns):
    """Shoot until the number of showers or the time is reached, then end this process.

    Arguments:
        g4, block, primaries: as in `start`; `block.response((x, y))` gives the last shower, which hit there,
            and forgets it.
        showers: `RawShowers`, to which the new ones are added.
        options: showers, seconds and save_every.
        columns: of energy, x, y, tx and ty, how many are kept of a primary.
    """
    manager, _physics = start(g4, block, primaries)
    begun = saved = time.monotonic()
    first = len(showers)
    print(f"{showers.path}: {first} showers so far", flush=True)
    while len(showers) < options.showers and time.monotonic() - begun < options.seconds:
        g4.G4Random.setTheSeed(primaries.prepare(len(showers)))
        clock = time.process_time()
        manager.BeamOn(1)
        response = block.response(primaries.current[2:4])
        showers.add(response, (primaries.pdg, *primaries.current[1 : 1 + columns]), time.process_time() - clock)
        if time.monotonic() - saved > options.save_every:
            showers.save()
            saved = time.monotonic()
            print(f"{showers.path}: {len(showers)} showers, {(saved - begun) / (len(showers) - first):.2f} s each",
                  flush=True)
    showers.save()
    print(f"{showers.path}: {len(showers)} showers", flush=True)
    os._exit(0)  # geant4_pybind crashes when Python takes it apart
