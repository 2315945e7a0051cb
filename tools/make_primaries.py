"""Make the table of forward particles behind `zdckeras.simulation.primaries` with Pythia 8.

    pip install ".[pythia]"
    python tools/make_primaries.py --events 100000 --output zdckeras/simulation/data/primaries.npz

Inelastic pp collisions. Everything that lives longer than a c tau of 1 mm (K0S, Lambda, Sigma, Xi, Omega, pi+-, K, n,
...) stays as it is, for the transport to let it decay on its way; pi0, eta, Sigma0, charm and beauty decay at once.
Kept are visible particles within an opening angle around either beam and above an energy, the two sides folded onto
pz > 0; of the abundant species only a random share, noted in the metadata, so that rare ones are well represented in
a small file. The azimuth is not stored: whoever draws from the table draws a new one.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from zdckeras.command import positive, run, whole
from zdckeras.data.atomic import atomic_path
from zdckeras.simulation.transport import INVISIBLE

SETTINGS = (
    "SoftQCD:inelastic = on",
    "ParticleDecays:limitTau0 = on",
    "ParticleDecays:tau0Max = 1.0",  # mm: only shorter-lived species decay in the generator
    "Random:setSeed = on",
    "Print:quiet = on",
)
KEPT = {22: 0.2, 2212: 0.1, 2112: 0.25, 211: 0.05, -211: 0.05, 321: 0.3, -321: 0.3}  # share of each kept; others all


def forward_particles(events, seed, beam_energy, max_angle, min_energy):
    """Generate `events` collisions: pT, |pz| [GeV] and ids, each (N,), and the version of Pythia."""
    import pythia8mc

    pythia = pythia8mc.Pythia("", False)
    for line in (*SETTINGS, f"Random:seed = {seed}", f"Beams:eCM = {2 * beam_energy}"):
        if not pythia.readString(line):
            raise ValueError(f"Pythia does not accept the setting {line!r}.")
    if not pythia.init():
        raise RuntimeError("Pythia could not be initialised with these settings.")
    rows = []
    with tqdm(total=events, unit="event") as bar:
        done = 0
        while done < events:
            if not pythia.next():  # a failed event is replaced by the next one
                continue
            for p in pythia.event:
                if p.isFinal() and p.e() > min_energy and p.pT() < max_angle * abs(p.pz()):
                    rows.append((p.pT(), abs(p.pz()), p.id()))
            done += 1
            bar.update()
    pt, pz, pdg = np.array(rows, "float64").reshape(-1, 3).T
    share = np.array([0.0 if code in INVISIBLE else KEPT.get(code, 1.0) for code in pdg])
    keep = np.random.default_rng(seed).random(len(pdg)) < share
    version = f"{pythia.settings.parm('Pythia:versionNumber'):.3f}"
    return pt[keep].astype("float32"), pz[keep].astype("float32"), pdg[keep].astype("int16"), version


def write_table(path, pt, pz, pdg, metadata):
    """Write the table, whole or not at all."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, pt=pt, pz=pz, pdg=pdg, metadata=np.array(json.dumps(metadata)))


def main(argv=None):
    """Parse the command line, generate, write, and say what was made."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--events", type=whole(1), default=100_000, help="collisions to generate")
    parser.add_argument("--seed", type=whole(1, 900_000_000), default=1, help="Pythia's seed")
    parser.add_argument("--beam-energy", type=positive, default=2680.0, help="energy per beam [GeV]")
    parser.add_argument("--max-angle", type=positive, default=7e-4, help="largest pT / |pz| kept [rad]")
    parser.add_argument("--min-energy", type=positive, default=20.0, help="lowest energy kept [GeV]")
    parser.add_argument("--output", type=Path, default=Path("primaries.npz"))
    args = parser.parse_args(argv)
    if not args.output.parent.is_dir():
        parser.error(f"the folder of --output does not exist: {args.output.parent}")

    pt, pz, pdg, version = forward_particles(args.events, args.seed, args.beam_energy, args.max_angle, args.min_energy)
    metadata = {
        "generator": "Pythia",
        "version": version,
        "beams": "pp",
        "settings": list(SETTINGS),
        "events": args.events,
        "seed": args.seed,
        "beam_energy_GeV": args.beam_energy,
        "max_angle_rad": args.max_angle,
        "min_energy_GeV": args.min_energy,
        "sides": 2,
        "kept": {str(code): share for code, share in KEPT.items()},
        "columns": "pt, pz [GeV], both sides folded onto pz > 0; pdg: PDG id",
    }
    write_table(args.output, pt, pz, pdg, metadata)
    print(f"{args.output}: {len(pdg)} particles of {len(np.unique(pdg))} species, {args.output.stat().st_size} bytes")


if __name__ == "__main__":
    run(main)
