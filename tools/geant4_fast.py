"""A generator inside Geant4: a hook stops particles at the detector's face, and an ONNX file answers in their place.

    export GEANT4_DATA_DIR=/path/to/geant4/data
    zdckeras export zn zn.onnx --to onnx --ids
    python tools/geant4_fast.py zn zn.onnx --kinds neutron=1 --energy 100 1000 --showers 100

One program shoots the same primaries twice, with full showers and with the hook, and sets processor time and shower
shapes beside each other. geant4_pybind has no class for fast-simulation models, so the hook is a stepping action of
ours; in C++ the same is what Geant4's example Par04 and key4hep's DDML do, with the ONNX file as their network.

The generator is told the particle where it is stopped: vertex just before the face, momentum and kind as Geant4 has
them, and its PDG id where the file takes ids, which alone tell K0S from K0L. So a generator with the way to the
detector inside (a modular one) has nothing of it left to do.
"""

import argparse
import os
import time

import numpy as np
from geant4_run import Primaries, add_arguments, find_geant4, parse, start
from geant4_showers import ABSORBERS, Block, draw

from zdckeras.command import run
from zdckeras.data.detectors import get_detector
from zdckeras.metrics.ranks import rank_pulls, ranks
from zdckeras.metrics.report import text_table
from zdckeras.metrics.shapes import SHAPE_OBSERVABLES, shapes

BEFORE = 0.1  # cm before the face, where the generator is told that the particle starts
OBSERVABLES = ("photons", "width", "lit", "brightest", "core")
DRAWS = 40  # responses of the generator to each primary, for the ranks


def particle_at_face(detector, place, momentum, mass, charge, pz_side=1.0):
    """The nine conditions (9,) of a particle that arrives at a place on a detector's face.

    Arguments:
        detector: `Detector`.
        place: x, y from its centre [cm].
        momentum: (3,) [GeV].
        mass: [MeV].
        charge: [e].
    """
    energy = np.sqrt(np.square(momentum).sum() + (1e-3 * mass) ** 2)
    slope = np.asarray(momentum[:2]) / max(abs(momentum[2]), 1e-6)
    x, y = np.asarray(place) - BEFORE * slope
    return np.array([energy, x + detector.centre_x, y, pz_side * (detector.distance - BEFORE), *momentum, mass, charge],
                    "float32")


class FaceHook:
    """Stepping action that stops what enters the block and keeps it for the generator, while it is on."""

    def __init__(self, g4, block, generator):
        self.g4, self.block, self.generator, self.on, self.caught = g4, block, generator, False, []

    def actions(self):
        """The action, made when Geant4 asks for it."""
        hook, g4 = self, self.g4

        class Stepping(g4.G4UserSteppingAction):
            def UserSteppingAction(self, step):
                after = step.GetPostStepPoint()
                if not hook.on or after.GetStepStatus() != g4.fGeomBoundary:
                    return
                track = step.GetTrack()
                if track.GetVolume().GetName() != "world":  # where the step began
                    return
                place, momentum = after.GetPosition(), after.GetMomentum()
                if momentum.z > 0 and abs(place.z + hook.block.length / 2) < 1e-3:
                    definition = track.GetParticleDefinition()
                    told = particle_at_face(hook.block.detector, (place.x / 10, place.y / 10),
                                            np.array([momentum.x, momentum.y, momentum.z]) / g4.GeV,
                                            definition.GetPDGMass(), definition.GetPDGCharge())
                    hook.caught.append((told, definition.GetPDGEncoding()))
                    track.SetTrackStatus(g4.fStopAndKill)

        self.action = Stepping()
        return (self.action,)

    def answer(self, rng, draws=1):
        """Photons (draws, nx, ny) of everything that was stopped, which is forgotten."""
        made = np.zeros((draws, *self.block.detector.shape), "int64")
        for particle, pdg in self.caught:
            noise = rng.standard_normal((draws, self.generator.width), "float32")
            response, = self.generator.call(noise, np.tile(particle, (draws, 1)), np.full(draws, pdg))
            made += np.rint(response).astype("int64")
        self.caught.clear()
        return made


def shoot_both(g4, block, primaries, hook, options):
    """Photons (N, nx, ny) of Geant4, (N, DRAWS, nx, ny) of the generator, and processor seconds of each way."""
    manager, _physics = start(g4, block, primaries)
    rng, full, fast, seconds = np.random.default_rng(options.seed), [], [], np.zeros(2)
    for number in range(options.showers):
        for hook.on in (False, True):
            g4.G4Random.setTheSeed(primaries.prepare(number))
            begin = time.process_time()
            manager.BeamOn(1)
            if not hook.on:
                light = block.response(None).astype("float64")
                seconds[0] += time.process_time() - begin
                full.append(rng.poisson(light))
                continue
            caught = list(hook.caught)
            first = hook.answer(rng)
            seconds[1] += time.process_time() - begin
            hook.caught = caught
            fast.append(np.concatenate([first, hook.answer(rng, DRAWS - 1)]))
        print(f"{number + 1} showers: {seconds[0]:.1f} s with Geant4, {seconds[1]:.3f} s with the hook", flush=True)
        if seconds[0] > options.seconds:
            break
    return np.array(full), np.array(fast), seconds


def summary(full, fast, seconds, seed):
    """What was measured, as text."""
    places = [list(SHAPE_OBSERVABLES).index(name) for name in OBSERVABLES]
    real = shapes(full)[:, places]
    made = shapes(fast.reshape(-1, *full.shape[1:])).reshape(len(full), -1, len(SHAPE_OBSERVABLES))[:, :, places]
    mean, spread, p = rank_pulls(ranks(real, made, seed))
    lines = [["", "Geant4", "generator", "rank mean", "rank spread", "p"]]
    for k, name in enumerate(OBSERVABLES):
        lines.append([name, f"{real[:, k].mean():.2f}", f"{made[:, :, k].mean():.2f}", f"{mean[k]:+.2f}",
                      f"{spread[k]:+.2f}", f"{p[k]:.3f}"])
    each = seconds / len(full)
    return (f"{len(full)} showers: {each[0]:.3f} s of processor time each with Geant4, {1e3 * each[1]:.2f} ms with the "
            f"hook: {each[0] / each[1]:.0f} times faster\n{text_table(lines)}")


def main(arguments=None):
    """Shoot twice and compare, then end this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", choices=sorted(ABSORBERS))
    add_arguments(parser, "ONNX file of the generator")
    options = parse(parser, arguments, {name: absorber.kinds for name, absorber in ABSORBERS.items()},
                    dict.fromkeys(ABSORBERS, (20.0, 3400.0)), least=2.0)
    from zdckeras.campaign.answers import open_answer

    generator = open_answer(str(options.output))
    if generator.detectors != (options.detector,):
        raise ValueError(f"Expected a generator of {options.detector}, received one of "
                         f"{' and '.join(generator.detectors)}.")
    options.wide = False
    g4 = find_geant4()
    block = Block(g4, get_detector(options.detector), False)
    hook = FaceHook(g4, block, generator)
    primaries = Primaries(g4, block.length, options, lambda rng: draw(rng, options, block), more_actions=hook.actions)
    print(summary(*shoot_both(g4, block, primaries, hook, options), options.seed), flush=True)
    os._exit(0)  # geant4_pybind crashes when Python takes it apart


if __name__ == "__main__":
    run(main)
