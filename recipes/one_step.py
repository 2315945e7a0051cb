"""One step: where the paths of flow matching end, in one evaluation of a network.

A teacher moves the latent codes of single arrivals from noise to data (`recipes/flow_matching.py`), in eight steps of
Heun's method, 16 evaluations. Students of its size need one: average velocities (MeanFlow, arXiv:2505.13447), learnt
from data or from the teacher's velocities, and students that are shown where the teacher's paths end, without and with
the physics loss on channel sums (arXiv:2512.20346) of the light that the decoder makes. That with it goes on from that
without, as does its control, "as long", with nothing new to learn. Two more have no teacher, nor its embedding of
features: one is trained on the energy score of its codes, and goes on against a critic.

    python recipes/one_step.py                          # embedded data, neutron calorimeter
    python recipes/one_step.py --seeds 3                # three trainings of every student of one teacher
    python recipes/one_step.py --data showers.root      # your own showers, or a folder with the npz pair

Interrupted, the same command goes on where it stopped. Autoencoder and teacher are those of `flow_matching.py`: with a
copy of `runs/flow_matching/states` in `runs/one_step/` they are not trained again.
"""

from functools import partial

import numpy as np

from zdckeras.command import run
from zdckeras.diffusion.adversarial import fit_code_gan
from zdckeras.diffusion.judging import quality_against_time
from zdckeras.diffusion.latent import code_posteriors, fit_prior
from zdckeras.diffusion.one_step import fit_mean_flow, fit_pairs
from zdckeras.judging import answer
from zdckeras.metrics.report import text_table
from zdckeras.metrics.trainings import by_row, critics_at_end, ordering, values_by_row
from zdckeras.modular.arrivals import single_arrivals
from zdckeras.modular.generator import ModularGenerator
from zdckeras.modular.judging import judge_single_arrivals
from zdckeras.modular.training import fit_vae
from zdckeras.modular.transport import Transport
from zdckeras.plots import save_figure
from zdckeras.recipe import command_line, judged_with_times, recipe_data, recipe_states, save_models, write_results

OWN = "own embedding"  # of rows without a teacher, whose states before it began with the teacher's
TEACHER, SHIPPED = "teacher, heun 8", "pairs + ch, 1 step"
DISTILLED = ("pairs, 1 step", "pairs, as long, 1 step", "pairs + ch, 1 step")
ROWS = (TEACHER, "teacher, 1 step", "MeanFlow, 1 step", "MeanFlow from the teacher, 1 step",
        "MeanFlow from the teacher, 2 steps", *DISTILLED, "energy score, 1 step", "GAN, 1 step")
PRESETS = {
    "laptop": dict(
        train=1, test=5_000, generations=2, arrivals=4_000, pairs=2_000, batches=(1, 256), levels=3, rows=ROWS,
        vae=dict(rows=60_000, epochs=45, batch=256, rate=1e-3, decoder=dict(rank=128)),
        codes=150_000, prior=dict(epochs=15, batch=512, rate=2e-3),
        mean_flow=dict(epochs=10, batch=512, rate=1e-3), paths=dict(epochs=15, batch=512, rate=2e-3),
        physics=dict(rows=50_000, epochs=2, batch=256, rate=3e-4, channels=1.0),
        score=dict(epochs=20, batch=512, rate=2e-3),
        adversarial=dict(epochs=15, batch=512, generator=5e-4, critic=1e-3)),
    "paper": dict(
        train=1, test=60_000, generations=5, arrivals=20_000, pairs=20_000, batches=(1, 256), levels=3, rows=ROWS,
        vae=dict(rows=300_000, epochs=40, batch=256, rate=1e-3, latent=32,
                 decoder=dict(hidden=(512, 768), known=384, rim=96)),
        codes=2_000_000, prior=dict(epochs=40, batch=1024, rate=2e-3, hidden=384),
        mean_flow=dict(epochs=60, batch=1024, rate=1e-3), paths=dict(epochs=40, batch=1024, rate=2e-3),
        physics=dict(rows=1_000_000, epochs=4, batch=512, rate=3e-4, channels=1.0),
        score=dict(epochs=40, batch=1024, rate=2e-3),
        adversarial=dict(epochs=40, batch=1024, generator=5e-4, critic=1e-3)),
    "smoke": dict(
        train=1, test=96, generations=2, arrivals=64, pairs=32, batches=(4,), levels=1,
        rows=(TEACHER, *DISTILLED[1:], "GAN, 1 step"),
        vae=dict(rows=128, epochs=1, batch=64, rate=1e-3, latent=4, encoder=dict(hidden=(16, 8)),
                 decoder=dict(hidden=(8, 8), known=8, rim=4), prior=dict(steps=1, hidden=(8,), context=8)),
        codes=128, prior=dict(epochs=1, batch=64, rate=1e-3, hidden=16, depth=2, context=8),
        mean_flow=dict(epochs=1, batch=64, rate=1e-3), paths=dict(epochs=1, batch=64, rate=1e-3),
        physics=dict(rows=64, epochs=1, batch=64, rate=3e-4, channels=1.0),
        score=dict(epochs=1, batch=64, rate=1e-3), adversarial=dict(epochs=1, batch=64, generator=1e-3, critic=1e-3)),
}


def train_students(args, p, data, vae, teacher, codes, seed):
    """One-step priors of one seed, by row, and histories."""
    priors, histories, stages = {}, {}, (p["codes"], p["prior"], *([f"seed {seed}"] if seed else []))

    def state(name, *settings):
        return recipe_states(args, p["vae"], *stages, *settings, data=data) / f"{name}.npz"

    for row, distilled in (("MeanFlow", False), ("MeanFlow from the teacher", True)):
        path = state(row.replace(" ", "_"), p["mean_flow"], *([] if distilled else [OWN]))
        priors[row], histories[row] = fit_mean_flow(teacher, codes, path, seed=seed, distilled=distilled,
                                                    **p["mean_flow"])
    priors["pairs"], histories["pairs"] = fit_pairs(teacher, vae, codes, state("pairs", p["paths"]), seed=seed,
                                                    **p["paths"])
    settings = {name: value for name, value in p["physics"].items() if name != "rows"}
    some = {name: values[: p["physics"]["rows"]] for name, values in codes.items()}
    for row, name, changed in (("pairs, as long", "pairs_as_long", dict(channels=0.0)), ("pairs + ch", "pairs_ch", {})):
        priors[row], histories[row] = fit_pairs(teacher, vae, some, state(name, p["paths"], p["physics"]), seed=seed,
                                                start=priors["pairs"], **settings | changed)
    folder = recipe_states(args, p["vae"], *stages, p["score"], p["adversarial"], OWN, data=data)
    more, losses = fit_code_gan(teacher, codes, folder, p["score"], p["adversarial"], seed)
    return priors | more, histories | losses


def train_models(args, p, data):
    """The autoencoder, priors by row ("<row>, seed <k>" where they are trained once for every seed), and histories."""
    least = max(p[k]["batch"] for k in ("vae", "prior", "mean_flow", "paths", "score", "adversarial"))
    seed, histories, own = args.seed, {}, single_arrivals(data.training, least) if args.data else None
    path = recipe_states(args, p["vae"], data=data) / "autoencoder.npz"
    vae, histories["autoencoder"] = fit_vae(args.detector, path, seed=seed, own=own, **p["vae"])
    codes = code_posteriors(vae, p["codes"], seed, own)
    path = recipe_states(args, p["vae"], p["codes"], p["prior"], data=data) / "latent.npz"
    teacher, histories["teacher"] = fit_prior(vae, codes, path, seed=seed, **p["prior"])
    teacher = teacher.sampled_by("heun", 8)
    rows = {TEACHER: teacher, "teacher, 1 step": teacher.sampled_by("euler", 1)}
    rows = {label: prior for label, prior in rows.items() if label in p["rows"]}
    for k in range(args.seeds):
        priors, learnt = train_students(args, p, data, vae, teacher, codes, seed + k)
        found = {f"{row}, 1 step": prior for row, prior in priors.items()}
        found |= {f"{row}, 2 steps": prior.sampled_by("euler", 2) for row, prior in priors.items() if "Mean" in row}
        rows |= {f"{label}, seed {k}": found[label] for label in p["rows"] if label in found}
        histories |= {f"{row}, seed {k}": history for row, history in learnt.items()}
    return vae, rows, histories


def verdicts(scores, priors):
    """What the table says of the row that is shipped beside its teacher, and of the physics loss and its control."""
    found = values_by_row(scores)
    one, many = np.mean(found[SHIPPED]), found[TEACHER][0]
    faster = priors[TEACHER].operations() / priors[f"{SHIPPED}, seed 0"].operations()
    yield f"{SHIPPED}: WS {one / many:.2f} times that of {TEACHER}, codes in {1 / faster:.2f} of its operations"
    yield f"of the loss on channel sums: {ordering({row: found[row] for row in DISTILLED[1:]})}"


def main():
    args = command_line(__doc__, PRESETS, "runs/one_step", ("zn", "zp"), trainings=1).parse_args()
    p = PRESETS[args.preset]
    data = recipe_data(args, p, draws=range(1, p["generations"] + 1))
    vae, priors, histories = train_models(args, p, data)
    generators = {label: ModularGenerator(Transport(args.detector, p["levels"]), prior, vae.decoder, *data.reach)
                  for label, prior in priors.items()}
    shipped = f"{SHIPPED}, seed 0"
    save_models(args, data, {"generator.keras": generators[shipped], "teacher.keras": generators[TEACHER]})
    table, times, text = judged_with_times(args, data, generators, p)
    lines = [f"{len(data.test)} test showers", text, "", f"{p['arrivals']} single arrivals",
             judge_single_arrivals(generators, p["arrivals"], args.seed, p["pairs"]), "",
             text_table(critics_at_end(histories)), "", *verdicts(table.scores, priors)]
    figure = quality_against_time(table, times, {row: [row] for row in by_row(generators)})
    save_figure(figure, args.out / "one_step.png")
    shown = {label: partial(answer, generators[label], data.test) for label in (TEACHER, shipped)}
    write_results(args, "one_step.txt", "\n".join(lines), table, data.test, shown, histories)


if __name__ == "__main__":
    run(main)
