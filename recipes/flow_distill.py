"""From a particle list to a distilled flow: MAF teacher -> IAF student with a physics loss, judged and exported.

What the study did (arXiv:2512.20346): a masked autoregressive flow learns the responses of the neutron Zero Degree
Calorimeter; an inverse one learns from it to give them in one pass, from the baseline loss ("bs"), with a loss on
channel sums ("ch") and with a scaling by the output variability of the condition ("div"). Two forms of ours: over the
cells of the whole response, in the frame of the expected impact and told of the channel sums (the study's own flow is
in `recipes/flow_noise.py`); and over the 16 codes of what arrives at the detector, between a transport that is computed
and a decoder of single showers (`recipes/modular.py`).

    python recipes/flow_distill.py                      # embedded data, laptop preset
    python recipes/flow_distill.py --preset paper       # the study's size, for a GPU
    python recipes/flow_distill.py --data showers.root  # your own showers, or a folder with the npz pair

Interrupted, the same command goes on where it stopped. 20 minutes on two cores; WS of the student over codes is 1.22
(floor 0.80), that of teacher and students over cells 1.23 with channel sums imposed, 2.6 to 4.3 without.
"""

from functools import partial

from zdckeras.command import run
from zdckeras.export.saved_model import export_saved_model
from zdckeras.flow_distill.generator import ShowerGenerator
from zdckeras.flow_distill.shape import ShapeFlow
from zdckeras.flow_distill.students import STUDENTS, distil_students
from zdckeras.flow_distill.sums import fit_sums
from zdckeras.judging import Trained, answer, generator_of
from zdckeras.metrics.report import judge
from zdckeras.modular.arrivals import single_arrivals
from zdckeras.modular.generator import ModularGenerator
from zdckeras.modular.training import distil, encoded_arrivals, fit_vae
from zdckeras.modular.transport import Transport
from zdckeras.packaged import about_models
from zdckeras.plots import write_pictures
from zdckeras.recipe import (
    PICTURED,
    command_line,
    judged_with_times,
    recipe_data,
    recipe_states,
    save_models,
    write_text,
)
from zdckeras.training.batches import Batches
from zdckeras.training.loop import fit_adam

PRESETS = {
    "laptop": dict(
        train=50_000, validation=5_000, test=20_000, generations=5, batch=256,
        sums=dict(rows=100_000, epochs=20, batch=512, rate=2e-3),
        shape=dict(steps=3, hidden=(128, 128), embedding=(128, 64)),
        teacher=dict(epochs=6, rate=1e-3), student=dict(epochs=4, rate=1e-3), common=3,
        vae=dict(rows=60_000, epochs=15, batch=256, rate=1e-3), levels=3,
        codes=dict(rows=60_000, epochs=4, batch=256, rate=1e-3)),
    "paper": dict(
        train=214_746, validation=40_000, test=60_000, generations=5, batch=256,
        sums=dict(rows=214_746, epochs=60, batch=1024, rate=1e-3),
        shape=dict(steps=4, hidden=(1452, 1452), embedding=(512, 256)),
        teacher=dict(epochs=100, rate=1e-4), student=dict(epochs=100, rate=1e-4), common=50,
        vae=dict(rows=300_000, epochs=40, batch=256, rate=1e-3), levels=3,
        codes=dict(rows=300_000, epochs=20, batch=256, rate=1e-3)),
    "smoke": dict(
        train=128, validation=64, test=128, generations=2, batch=64,
        sums=dict(rows=128, epochs=2, batch=64, rate=2e-3, steps=1, hidden=(8,), embedding=(8,)),
        shape=dict(steps=1, hidden=(8,), embedding=(8,), maps=2),
        teacher=dict(epochs=2, rate=1e-3), student=dict(epochs=2, rate=1e-3), common=1,
        vae=dict(rows=128, epochs=1, batch=64, rate=1e-3, latent=4, encoder=dict(hidden=(16, 8)),
                 decoder=dict(hidden=(8, 8), known=8, rim=4), prior=dict(steps=1, hidden=(8,), context=8)), levels=1,
        codes=dict(rows=128, epochs=1, batch=64, rate=1e-3), batches=(4,)),
}
CODES = ("bs", "bs+ch+div")  # students over the codes of arrivals
PAIRS = 2_000  # that the pixel classifier sees


def train_teacher(p, data, states, seed):
    """Photon sums, from all training showers there are, and the teacher of shapes: both, and histories by name."""
    sums = fit_sums(data.more, states / "photon_sums.npz", seed=seed,
                    **{key: value for key, value in p["sums"].items() if key != "rows"})
    detector = data.training.detector()
    teacher = ShapeFlow.fit_scales(detector.name, *data.arrays.values(), seed=seed, **p["shape"])
    noise = {"u_cells": (detector.cells,)}
    held = {"conditions": data.validation.particles, "responses": data.validation.response}
    size = min(p["batch"], len(data.validation))
    history = fit_adam(teacher, Batches(data.arrays, p["batch"], seed, noise), states / "teacher.npz", **p["teacher"],
                       validation=Batches(held, size, uniform=noise, shuffle=False))
    return sums, teacher, {"teacher": history}


def train_codes(p, data, own, states, seed):
    """The same over the codes of single arrivals: generators by name, the teacher first, and their histories."""
    detector, reach = data.training.detector().name, (data.more.particles.min(axis=0), data.more.particles.max(axis=0))
    vae, history = fit_vae(detector, states / "autoencoder.npz", seed=seed, own=own, **p["vae"])
    arrays = encoded_arrivals(vae, p["codes"]["rows"], seed, own)
    settings = {key: value for key, value in p["codes"].items() if key != "rows"}
    priors, histories = {"teacher": vae.prior}, {"autoencoder of arrivals": history}
    for name in CODES:
        channels, scaled = STUDENTS[name]
        path = states / f"codes_{name.replace('+', '_')}.npz"
        priors[name], histories[f"{name}, codes"] = distil(vae, arrays, path, channels=channels, scaled=scaled,
                                                           seed=seed, **settings)
    generators = {f"{name}, codes": ModularGenerator(Transport(detector, p["levels"]), prior, vae.decoder, *reach)
                  for name, prior in priors.items()}
    return generators, histories


def over_cells(sums, teacher, student, weights, impose):
    """What is judged of the flows over cells, by name: the teacher, and the student with each of its weights."""
    both = ShowerGenerator(sums, student, impose)
    return {"teacher": ShowerGenerator(sums, teacher, impose)} | {
        name: Trained(both, student, values) for name, values in weights.items()}


def main():
    args = command_line(__doc__, PRESETS, "runs/flow_distill", ("zn", "zp")).parse_args()
    p, out, seed = PRESETS[args.preset], args.out, args.seed
    data = recipe_data(args, p, more=p["sums"]["rows"], draws=(seed, seed + 1))
    states = recipe_states(args, p, data=data)
    own = single_arrivals(data.training, max(p[k]["batch"] for k in ("vae", "codes"))) if args.data else None
    sums, teacher, histories = train_teacher(p, data, states, seed)
    student, weights, taught = distil_students(teacher, data.training, states, **p["student"], common=p["common"],
                                               batch=p["batch"], seed=seed)
    codes, learnt = train_codes(p, data, own, states, seed)
    histories |= taught | learnt

    # the student to ship is chosen on the validation set, from its own channel sums
    imposed, free = (over_cells(sums, teacher, student, weights, impose) for impose in ("channels", "total"))
    able = {name: free[name].sample for name in weights}
    able |= {name: partial(answer, generator, data.validation) for name, generator in codes.items()}
    del able["teacher, codes"]
    choice = judge(data.validation, [data.validation.response], able, 1, seed)
    ranked = sorted(able, key=lambda name: choice.scores[name]["metrics"]["all"]["WS"][0])
    best, best_cells = ranked[0], next(name for name in ranked if name in weights)
    student.set_weights(weights[best_cells])
    cells = ShowerGenerator(sums, student)
    shipped = codes.get(best, cells)
    save_models(args, data, {"teacher.keras": ShowerGenerator(sums, teacher), "student_cells.keras": cells,
                             "student.keras": shipped})
    try:
        about = about_models({"student.keras": out / "student.keras"})
        export_saved_model(shipped, out / "saved_model", overwrite=True, about=about)
    except ImportError as error:  # on a machine with JAX alone, say
        print(f"student.keras has no SavedModel beside it: {error}", flush=True)

    # judge on the test set, then pictures
    table, _, text = judged_with_times(args, data, imposed | codes, p | dict(pairs=PAIRS))
    total, _, other = judged_with_times(args, data, free, p | dict(pairs=PAIRS), 1, out / "free_sums")
    texts = ["five channel sums imposed on the flow over cells, nothing on codes", text, "", table.text(), "",
             "the photon number alone imposed on the flow over cells", other, "", total.text()]
    write_text(out / "flow_distill.txt", "\n".join(texts), data.provenance)
    some = data.test[:PICTURED]
    pictured = {name: answer(generator_of((imposed | codes)[name]), some, some.particles, seed)
                for name in dict.fromkeys(("teacher", best_cells, best))}
    write_pictures(out, some, pictured, histories)
    print(f"student chosen on the validation set: {best}; tables, pictures and models are in {out}")


if __name__ == "__main__":
    run(main)
