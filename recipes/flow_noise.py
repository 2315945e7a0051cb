"""The normalizing flow as published: which range of dequantisation noise is best, and the talk's students of that flow.

The neutron study's flow (CaloFlow's approach) sees every cell's photons plus noise U(0, r), divided by their sum, as
logits; its only other inputs are the particle and the photon number. It found r = 0.5 best among 1, 0.75, 0.5, 0.1,
0.01 and 0.001. The flow distillation (arXiv:2512.20346) then teaches students with and without a loss on channel sums
("ch") and a scaling by variability ("div"): here, unlike in `recipes/flow_distill.py`, nothing but the photon number
is given to the flow, and nothing is imposed, so that "ch" can show. The teachers' networks, orders
of the cells and optimizer are those of the authors' code, majerzemilia/zdc-fast-simulations;
`zdckeras.flow_distill.published` says what differs. That of the students is not published: Adam on a cosine.
Laptop: three steps of narrow networks with four bins in place of four steps of three layers of 1,452 with eight, and a
rate ten times as high for a hundredth of the steps.

    python recipes/flow_noise.py                        # embedded data, neutron calorimeter
    python recipes/flow_noise.py --seeds 3              # three trainings of every row
    python recipes/flow_noise.py --preset paper --dry-run # what the published size and schedule would cost
    python recipes/flow_noise.py --data showers.root    # your own showers, or a folder with the npz pair

Interrupted, the same command goes on where it stopped.
"""

from zdckeras.command import run
from zdckeras.flow_distill.published import PublishedFlow, PublishedFlowGenerator
from zdckeras.flow_distill.students import STUDENTS, distil_students
from zdckeras.flow_distill.sums import fit_sums
from zdckeras.judging import Trained
from zdckeras.metrics.report import judge
from zdckeras.metrics.trainings import SUMMARY, by_row, of_seed, ordering, values_by_row
from zdckeras.recipe import FEW, command_line, judged_with_times, recipe_data, recipe_states, save_models, write_results
from zdckeras.simulation.reference import load
from zdckeras.training.batches import Batches
from zdckeras.training.cost import Passes, passes_of_loss, printed_cost
from zdckeras.training.loop import fit_adam

RANGES = (1.0, 0.75, 0.5, 0.1, 0.01, 0.001)  # photons
FALLS = dict(falls=(0.15, 0.4, 0.7), fall=0.5)  # of the rate: half after 15, 40 and 70 of 100 epochs
PRESETS = {
    "laptop": dict(
        train=20_000, validation=2_000, test=5_000, generations=2, pairs=1_000, ranges=RANGES, batch=128,
        number=dict(epochs=10, batch=512, rate=2e-3, plain=True),
        shape=dict(steps=3, hidden=(64, 64), bins=4), teacher=dict(epochs=3, rate=1e-3),
        student=dict(epochs=3, rate=1e-3), common=2),
    "paper": dict(
        train=245_424, validation=40_000, test=60_000, generations=5, pairs=20_000, ranges=RANGES,
        batch=512,  # four fifths of the study's showers
        number=dict(epochs=60, batch=1024, rate=1e-3, plain=True),
        shape=dict(), teacher=dict(epochs=100, rate=1e-4), student=dict(epochs=100, rate=1e-4), common=50),
    "smoke": dict(
        train=64, validation=48, test=64, generations=2, pairs=32, batches=(4,), ranges=(0.5, 0.1),
        batch=32,
        number=dict(epochs=1, batch=32, rate=2e-3, steps=1, hidden=(8,), embedding=(8,), plain=True),
        shape=dict(steps=1, hidden=(8,), bins=2), teacher=dict(epochs=1, rate=1e-3),
        student=dict(epochs=2, rate=1e-3), common=1),
}


def dry_run(args, p):
    """What the training of a teacher would cost, one of those with the ranges of noise, and that of a student.

    A student is as large; its step takes it forward and back twice, in the direction of the data and in that of the
    noise, and the teacher once without and once with the gradient of what the student gave.
    """
    some = load(args.detector, "train", FEW)
    teacher = PublishedFlow.fit_scales(args.detector, some.particles, some.response, seed=args.seed, **p["shape"])
    rows = dict(conditions=some.particles.shape[1:], responses=teacher.detector.shape,
                u_cells=(teacher.detector.cells,))
    cost = passes_of_loss("teacher", teacher, **rows)
    flow = cost["teacher"].network
    student = {"student": Passes(flow, 0.0, 2.0), "its teacher": Passes(flow, 1.0, 1.0, trained=False)}
    for name, passes in (("teacher", cost), ("student", student)):
        printed_cost(passes, p["train"], p[name] | {"batch": p["batch"]})


def train_ranges(p, data, states, seed):
    """The photon number, and the teacher with every range of noise: number, range -> teacher, histories."""
    number = fit_sums(data.training, states / "number.npz", seed=seed, total=True, **p["number"])
    detector, teachers, histories = data.training.detector(), {}, {}
    for noise in p["ranges"]:
        teacher = PublishedFlow.fit_scales(detector.name, *data.arrays.values(), noise=noise, seed=seed, **p["shape"])
        batches = Batches(data.arrays, p["batch"], seed, {"u_cells": (detector.cells,)})
        histories[f"r = {noise:g}"] = fit_adam(teacher, batches, states / f"teacher_{noise:g}.npz", **p["teacher"],
                                               adam=FALLS | dict(rate=p["teacher"]["rate"]))
        teachers[noise] = teacher
    return number, teachers, histories


def train_models(args, p, data):
    """Rows of the table, "<row>, seed <k>" -> what is judged; histories; and the teacher's row of each training."""
    states, trained, histories, teaching = recipe_states(args, p, FALLS, data=data), {}, {}, []
    for k in range(args.seeds):
        seed, folder = args.seed + k, states / f"seed{k}"
        number, teachers, learnt = train_ranges(p, data, folder, seed)
        rows = {f"r = {noise:g}": PublishedFlowGenerator(number, teacher) for noise, teacher in teachers.items()}
        able = {name: generator.sample for name, generator in rows.items()}
        scores = judge(data.validation, [data.validation.response], able, 1, args.seed).scores
        noise = min(teachers, key=lambda noise: SUMMARY["WS"](scores[f"r = {noise:g}"]))
        teaching.append(f"r = {noise:g}, seed {k}")
        student, weights, taught = distil_students(teachers[noise], data.training, folder, **p["student"],
                                                   common=p["common"], batch=p["batch"], seed=seed)
        both = PublishedFlowGenerator(number, student)
        rows |= {name: Trained(both, student, values) for name, values in weights.items()}
        trained, histories = trained | of_seed(rows, k), histories | of_seed(learnt | taught, k)
        if k == 0:
            save_models(args, data, {"teacher.keras": rows[f"r = {noise:g}"], "student.keras": rows["bs+ch"].ready()})
    return trained, histories, teaching


def verdicts(scores, teaching):
    """What the table says of the best range of noise, of the losses of students, and of one beside its teacher."""
    found = values_by_row(scores)
    ranges = sorted((name for name in found if name.startswith("r = ")), key=lambda name: -sum(found[name]))
    yield f"least WS with {ranges[-1]}: {ordering({name: found[name] for name in ranges[-2:]})}"
    yield f"students: {ordering({name: found[name] for name in STUDENTS if name in found})}"
    yield f"teachers of the students, best on the validation set: {'; '.join(teaching)}"
    for name in ("WS", "MAE"):
        pair = {"teacher": [SUMMARY[name](scores[row]) for row in teaching]}
        pair["bs+ch"] = values_by_row(scores, name)["bs+ch"]
        yield f"student beside its teacher: {ordering(pair, name)}"


def main():
    args = command_line(__doc__, PRESETS, "runs/flow_noise", ("zn", "zp"), trainings=1, dry=True).parse_args()
    p = PRESETS[args.preset]
    if args.dry_run:
        return dry_run(args, p)
    data = recipe_data(args, p, draws=range(1, p["generations"] + 1))
    trained, histories, teaching = train_models(args, p, data)
    table, _, text = judged_with_times(args, data, trained, p)
    text = "\n".join([text, "", *verdicts(table.scores, teaching)])
    first = {row: trainings[0] for row, trainings in by_row(trained).items()}
    shown = {name: first[name].sample for name in (f"r = {p['ranges'][0]:g}", "r = 0.5", "bs+ch") if name in first}
    write_results(args, "noise.txt", text, table, data.test, shown, histories)


if __name__ == "__main__":
    run(main)
