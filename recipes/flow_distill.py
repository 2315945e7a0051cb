"""From a particle list to a distilled flow: MAF teacher -> IAF student with a physics loss, judged and exported.

What the study did (arXiv:2512.20346): a masked autoregressive flow learns the responses of the neutron Zero Degree
Calorimeter; an inverse one learns from it to give them in one pass, from the baseline loss ("bs"), with a loss on
channel sums ("ch") and with a scaling by the output variability of the condition ("div").

    python recipes/flow_distill.py                      # embedded data, laptop preset
    python recipes/flow_distill.py --preset paper       # the study's size, for a GPU
    python recipes/flow_distill.py --data showers.root  # your own showers, or a folder with the npz pair

Interrupted, the same command goes on where it stopped.
"""

from shutil import copy

import numpy as np

from zdckeras.data.repeats import condition_statistics
from zdckeras.export.saved_model import export_saved_model
from zdckeras.flow_distill.distiller import Distiller, variability_weight
from zdckeras.flow_distill.generator import ShowerGenerator
from zdckeras.flow_distill.shape import ShapeFlow
from zdckeras.flow_distill.sums import fit_sums
from zdckeras.metrics.report import judge
from zdckeras.plots import write_pictures
from zdckeras.recipe import command_line, showers_for
from zdckeras.training.batches import Batches
from zdckeras.training.loop import fit_adam, states_folder

PRESETS = {
    "laptop": dict(
        train=50_000, validation=5_000, test=20_000, generations=5, batch=256,
        sums=dict(train=100_000, epochs=20, batch=512, rate=2e-3),
        shape=dict(steps=3, hidden=(128, 128), embedding=(128, 64)),
        teacher=dict(epochs=6, rate=1e-3), student=dict(epochs=4, rate=1e-3), start=3),
    "paper": dict(
        train=300_000, validation=40_000, test=60_000, generations=5, batch=256,
        sums=dict(train=300_000, epochs=60, batch=1024, rate=1e-3),
        shape=dict(steps=4, hidden=(1452, 1452), embedding=(512, 256)),
        teacher=dict(epochs=100, rate=1e-4), student=dict(epochs=100, rate=1e-4), start=50),
    "smoke": dict(
        train=512, validation=128, test=256, generations=2, batch=64,
        sums=dict(train=512, epochs=2, batch=64, rate=2e-3),
        shape=dict(steps=2, hidden=(16, 16), embedding=(16,), maps=2),
        teacher=dict(epochs=2, rate=1e-3), student=dict(epochs=2, rate=1e-3), start=1),
}
STUDENTS = {"bs": (0.0, False), "bs+div": (0.0, True), "bs+ch": (1.0, False), "bs+ch+div": (1.0, True)}


def main():
    args = command_line(__doc__, PRESETS, "runs/flow_distill", ("zn", "zp")).parse_args()
    p, out, seed = PRESETS[args.preset], args.out, args.seed
    states = states_folder(out, p, args.detector, args.data, seed)

    # data
    sizes = p | {"train": max(p["train"], p["sums"]["train"])}
    more, validation, test, resimulated = showers_for(args.detector, args.data, sizes, (seed, seed + 1), seed)
    training, resimulated = more if args.data else more[: p["train"]], [again.response for again in resimulated]
    detector, (nx, ny) = training.detector().name, training.detector().shape
    rows = {"conditions": training.particles, "responses": training.response}
    noise = {"uniform": {"u_cells": (nx * ny,)}}

    # photon sums, then the teacher
    sums = fit_sums(more, states / "photon_sums.npz", *(p["sums"][key] for key in ("epochs", "batch", "rate")), seed)
    teacher, histories = ShapeFlow.fit_scales(detector, *rows.values(), seed=seed, **p["shape"]), {}
    check = Batches({"conditions": validation.particles, "responses": validation.response}, p["batch"], **noise,
                    shuffle=False)
    histories["teacher"] = fit_adam(teacher, Batches(rows, p["batch"], seed, **noise), states / "teacher.npz",
                                    **p["teacher"], validation=check)

    # students: a common start on the baseline loss, then each goes on from there with its own
    noise["normal"] = {"z": (nx * ny,)}
    variable = variability_weight(condition_statistics(training).diversity)
    rows["weight"], rows["channels"] = np.ones_like(variable), np.zeros_like(variable)
    student = teacher.student(seed=seed + 1)
    distiller, begun = Distiller(teacher, student), states / "start.npz"
    histories["start"] = fit_adam(distiller, Batches(rows, p["batch"], seed, **noise), begun, **p["student"],
                                  until=p["start"])
    weights = {}
    for name, (channels, scaled) in STUDENTS.items():
        rows["channels"] = np.full_like(variable, channels)
        rows["weight"] = variable if scaled else np.ones_like(variable)
        path = states / f"{name.replace('+', '_')}.npz"
        if not path.exists():
            copy(begun, path)
        histories[name] = fit_adam(distiller, Batches(rows, p["batch"], seed, **noise), path, **p["student"])
        weights[name] = student.get_weights()

    # judge on the test set; the student to ship is chosen on the validation set, from its own channel sums
    def sampler(name, impose):
        def sample(conditions, seed):
            if name in weights:
                student.set_weights(weights[name])
            return generators[name in weights, impose].sample(conditions, seed)
        return sample

    generators = {(distilled, impose): ShowerGenerator(sums, student if distilled else teacher, impose)
                  for distilled in (False, True) for impose in ("channels", "total")}
    models = {impose: {name: sampler(name, impose) for name in ("teacher", *weights)}
              for impose in ("channels", "total")}
    imposed = judge(test, resimulated, models["channels"], p["generations"], seed)
    total = judge(test, resimulated, models["total"], 1, seed)
    choice = judge(validation, [validation.response], {name: models["total"][name] for name in weights}, 1, seed)
    best = min(weights, key=lambda name: choice.scores[name]["metrics"]["all"]["WS"][0])
    print(f"\nfive channel sums imposed\n{imposed.text()}\n\nonly the photon number imposed\n{total.text()}\n")

    # report, pictures, models
    imposed.write(out)
    total.write(out / "free_sums")
    some = test[:2000]
    write_pictures(out, some, {name: models["channels"][name](some.particles, seed) for name in ("teacher", best)},
                   histories)
    generators[False, "channels"].save(out / "teacher.keras")
    student.set_weights(weights[best])
    generators[True, "channels"].save(out / "student.keras")
    export_saved_model(generators[True, "channels"], out / "saved_model", overwrite=True)
    print(f"student chosen on the validation set: {best}; report, pictures and models are in {out}")


if __name__ == "__main__":
    main()
