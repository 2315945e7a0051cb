"""From a particle list to a distilled flow: MAF teacher -> IAF student with a physics loss, judged and exported.

What the study did (arXiv:2512.20346): a masked autoregressive flow learns the responses of the neutron Zero Degree
Calorimeter; an inverse one learns from it to give them in one pass, from the baseline loss ("bs"), with a loss on
channel sums ("ch") and with a scaling by the output variability of the condition ("div"). Two forms of ours: over the
cells of the whole response, in the frame of the expected impact and told of the channel sums (the study's own flow is
in `recipes/flow_noise.py`), imposing the photon number alone, so that "ch" can show; and over the 16 codes of what
arrives at the detector, between a transport that is computed and a decoder of single showers (`recipes/modular.py`).
One row has the channel sums imposed: so teacher and student over cells are saved, and the best student chosen.

    python recipes/flow_distill.py                      # embedded data, laptop preset
    python recipes/flow_distill.py --seeds 3            # three trainings of every row, of one autoencoder of arrivals
    python recipes/flow_distill.py --seeds 3 --in-order # also flows over cells that only reverse the order of these
    python recipes/flow_distill.py --preset paper       # the study's size, for a GPU
    python recipes/flow_distill.py --data showers.root  # your own showers, or a folder with the npz pair

Interrupted, the same command goes on where it stopped. 26 minutes of processor time, judging included; of three
trainings (floor 1.00) teachers over cells have WS 3.21 +- 0.12, students 3.20 +- 0.14 and with "ch" 3.12 +- 0.14,
students over codes 1.38 +- 0.08, with "ch" and "div" 1.55 +- 0.06: that "ch" helps is not seen.
"""

from functools import partial
from itertools import product

import numpy as np

from zdckeras.command import run
from zdckeras.export.saved_model import export_saved_model
from zdckeras.flow_distill.generator import ShowerGenerator
from zdckeras.flow_distill.shape import ShapeFlow
from zdckeras.flow_distill.students import STUDENTS, distil_students
from zdckeras.flow_distill.sums import fit_sums
from zdckeras.judging import Trained, answer
from zdckeras.metrics.report import judge
from zdckeras.metrics.trainings import SUMMARY, by_row, of_seed, ordering, values_by_row
from zdckeras.modular.arrivals import single_arrivals
from zdckeras.modular.generator import ModularGenerator
from zdckeras.modular.training import distil, encoded_arrivals, fit_vae
from zdckeras.modular.transport import Transport
from zdckeras.packaged import about_models
from zdckeras.recipe import command_line, judged_with_times, recipe_data, recipe_states, save_models, write_results
from zdckeras.training.batches import Batches
from zdckeras.training.loop import fit_adam

PRESETS = {
    "laptop": dict(
        train=50_000, validation=5_000, test=10_000, generations=2, pairs=2_000, batch=256,
        sums=dict(rows=100_000, epochs=20, batch=512, rate=2e-3),
        shape=dict(steps=3, hidden=(128, 128), embedding=(128, 64)),
        teacher=dict(epochs=6, rate=1e-3), student=dict(epochs=4, rate=1e-3), common=3,
        vae=dict(rows=60_000, epochs=15, batch=256, rate=1e-3), levels=3,
        codes=dict(rows=60_000, epochs=4, batch=256, rate=1e-3)),
    "paper": dict(
        train=214_746, validation=40_000, test=60_000, generations=5, pairs=20_000, batch=256,
        sums=dict(rows=214_746, epochs=60, batch=1024, rate=1e-3),
        shape=dict(steps=4, hidden=(1452, 1452), embedding=(512, 256)),
        teacher=dict(epochs=100, rate=1e-4), student=dict(epochs=100, rate=1e-4), common=50,
        vae=dict(rows=300_000, epochs=40, batch=256, rate=1e-3), levels=3,
        codes=dict(rows=300_000, epochs=20, batch=256, rate=1e-3)),
    "smoke": dict(
        train=128, validation=64, test=128, generations=2, pairs=32, batch=64,
        sums=dict(rows=128, epochs=2, batch=64, rate=2e-3, steps=1, hidden=(8,), embedding=(8,)),
        shape=dict(steps=2, hidden=(8,), embedding=(8,), maps=2),
        teacher=dict(epochs=2, rate=1e-3), student=dict(epochs=2, rate=1e-3), common=1,
        vae=dict(rows=128, epochs=1, batch=64, rate=1e-3, latent=4, encoder=dict(hidden=(16, 8)),
                 decoder=dict(hidden=(8, 8), known=8, rim=4), prior=dict(steps=1, hidden=(8,), context=8)), levels=1,
        codes=dict(rows=128, epochs=1, batch=64, rate=1e-3), batches=(4,)),
}
SAVED, IMPOSED, IN_ORDER = "bs+ch", "bs+ch, sums imposed", ", in order"


def train_cells(p, data, states, seed, names=tuple(STUDENTS), **order):
    """Photon sums, from all training showers there are, a teacher of shapes and its students: rows, and histories."""
    sums = fit_sums(data.more, states / "photon_sums.npz", seed=seed,
                    **{key: value for key, value in p["sums"].items() if key != "rows"})
    detector, states = data.training.detector(), states / ("in_order" if order else "cells")
    order = order or dict(permutation_seed=seed)
    teacher = ShapeFlow.fit_scales(detector.name, *data.arrays.values(), seed=seed, **p["shape"], **order)
    noise = {"u_cells": (detector.cells,)}
    held = {"conditions": data.validation.particles, "responses": data.validation.response}
    size = min(p["batch"], len(data.validation))
    history = fit_adam(teacher, Batches(data.arrays, p["batch"], seed, noise), states / "teacher.npz", **p["teacher"],
                       validation=Batches(held, size, uniform=noise, shuffle=False))
    student, weights, taught = distil_students(teacher, data.training, states, **p["student"], common=p["common"],
                                               batch=p["batch"], seed=seed, names=names)
    free, imposed = (ShowerGenerator(sums, student, impose) for impose in ("total", "channels"))
    rows = {"teacher": ShowerGenerator(sums, teacher, "total")}
    rows |= {name: Trained(free, student, values) for name, values in weights.items()}
    if SAVED in weights:
        rows[IMPOSED] = Trained(imposed, student, weights[SAVED])
    return rows, {"teacher": history} | taught


def train_codes(args, p, data, own, states):
    """The same over the codes of single arrivals, students of one teacher: rows of the table, and histories."""
    detector, reach = data.training.detector().name, (data.more.particles.min(axis=0), data.more.particles.max(axis=0))
    vae, history = fit_vae(detector, states / "autoencoder.npz", seed=args.seed, own=own, **p["vae"])
    arrays = encoded_arrivals(vae, p["codes"]["rows"], args.seed, own)
    settings = {key: value for key, value in p["codes"].items() if key != "rows"}
    priors, histories = {"teacher, codes": vae.prior}, {"autoencoder of arrivals": history}
    students = ("bs", "bs+ch" if own else "bs+ch+div")  # how much own arrivals vary is not known
    for k, name in product(range(args.seeds), students):
        channels, scaled = STUDENTS[name]
        path, row = states / f"seed{k}" / f"codes_{name.replace('+', '_')}.npz", f"{name}, codes, seed {k}"
        priors[row], histories[row] = distil(vae, arrays, path, channels=channels, scaled=scaled, seed=args.seed + k,
                                             **settings)
    generators = {row: ModularGenerator(Transport(detector, p["levels"]), prior, vae.decoder, *reach)
                  for row, prior in priors.items()}
    return generators, histories


def train_models(args, p, data, own, states):
    """Rows of the table, "<row>, seed <k>" -> what is judged, and histories."""
    trained, histories = {}, {}
    for k in range(args.seeds):
        seed, folder = args.seed + k, states / f"seed{k}"
        rows, learnt = train_cells(p, data, folder, seed)
        if args.in_order:
            old, curves = train_cells(p, data, folder, seed, ("bs",), permutation_seed=None)
            rows |= {name + IN_ORDER: row for name, row in old.items()}
            learnt |= {name + IN_ORDER: curve for name, curve in curves.items()}
        trained, histories = trained | of_seed(rows, k), histories | of_seed(learnt, k)
    codes, learnt = train_codes(args, p, data, own, states)
    return trained | codes, histories | learnt


def save_best(args, data, trained):
    """Saves teacher, student over cells, and the student that is least told on the validation set; its row."""
    teacher, imposed = trained["teacher, seed 0"], f"{IMPOSED}, seed 0"
    able = {row: one for row, one in trained.items() if row == imposed or row.endswith("codes, seed 0")}
    samplers = {row: one.sample if isinstance(one, Trained) else partial(answer, one, data.validation)
                for row, one in able.items()}
    scores = judge(data.validation, [data.validation.response], samplers, 1, args.seed).scores
    best = min(able, key=lambda row: abs(SUMMARY["AUC"](scores[row]) - 0.5))  # imposed sums have a good WS
    shipped = able[best].ready() if best == imposed else able[best]
    save_models(args, data, {"teacher.keras": ShowerGenerator(teacher.sums, teacher.shape),
                             "student_cells.keras": able[imposed].ready(), "student.keras": shipped})
    try:
        about = about_models({"student.keras": args.out / "student.keras"})
        export_saved_model(shipped, args.out / "saved_model", overwrite=True, about=about)
    except ImportError as error:  # on a machine with JAX alone, say
        print(f"student.keras has no SavedModel beside it: {error}", flush=True)
    return best


def verdicts(scores, histories, cells):
    """What the table says of the losses of students, of one beside its teacher, and of the orders of the cells."""
    found = {name: values_by_row(scores, name) for name in ("WS", "MAE")}
    pairs = (("bs", "bs+div"), ("bs", "bs+ch"), ("bs+ch", "bs+ch+div"), ("bs, codes", "bs+ch+div, codes"),
             ("bs, codes", "bs+ch, codes"), ("teacher", "bs+ch"), ("teacher" + IN_ORDER, "teacher"),
             ("bs" + IN_ORDER, "bs"))
    for (a, b), (name, values) in product(pairs, found.items()):
        if a in values and b in values:
            yield ordering({a: values[a], b: values[b]}, name)
    held = by_row({row: cells * curve["val_loss"][-1] for row, curve in histories.items() if "val_loss" in curve})
    yield f"validation, -log p a shower [nats]: {'; '.join(f'{row} {np.mean(one):.1f}' for row, one in held.items())}"
    if len(held) > 1:
        yield ordering({row: held[row] for row in ("teacher" + IN_ORDER, "teacher")}, "-log p")


def main():
    parser = command_line(__doc__, PRESETS, "runs/flow_distill", ("zn", "zp"), trainings=1)
    parser.add_argument("--in-order", action="store_true", help="also flows over cells without random orders of these")
    args = parser.parse_args()
    p = PRESETS[args.preset]
    data = recipe_data(args, p, more=p["sums"]["rows"], draws=range(1, p["generations"] + 1))
    own = single_arrivals(data.training, max(p[k]["batch"] for k in ("vae", "codes"))) if args.data else None
    trained, histories = train_models(args, p, data, own, recipe_states(args, p, data=data))
    best = save_best(args, data, trained)
    table, _, text = judged_with_times(args, data, trained, p)
    lines = [text, "", *dict.fromkeys(verdicts(table.scores, histories, data.test.detector().cells)),
             f"student chosen on the validation set: {best}"]
    rows = dict.fromkeys(("teacher, seed 0", f"{IMPOSED}, seed 0", "teacher, codes", best))
    shown = {row.split(", seed ")[0]: one.sample if isinstance(one := trained[row], Trained) else
             partial(answer, one, data.test) for row in rows}
    write_results(args, "flow_distill.txt", "\n".join(lines), table, data.test, shown, histories)


if __name__ == "__main__":
    run(main)
