"""GAN, SDI-GAN, + intensity, + auxiliary regressor, + L2 as published, and our own GAN beside them, at one budget.

What the proton study did (Bedkowski et al., "Deep generative models for proton Zero Degree Calorimeter simulations in
ALICE, CERN"): a conditional DCGAN on ln(1 + n), then one more term at a time, judged by the Wasserstein distance of the
five channels over five trainings; the neutron study (Majerz, Wojnar et al.): vision transformers, GAN, SDI-GAN, GAN
with an L2 term, each with a factor on its light. The first rows are those of the detector's study
(`zdckeras.gan.published`, `zdckeras.gan.published_vit`, `zdckeras.gan.images`: the papers' networks, terms and
optimizers, nothing of ours; laptop: smaller networks and higher rates for a hundredth of the steps or less, in which
critics hardly learn: look at their accuracy). Ours (`zdckeras.gan.model`) decides channel sums first, starts from
proper scores without a critic, and keeps them beside it.

    python recipes/sdi_gan.py                          # embedded data, proton calorimeter, three trainings of each row
    python recipes/sdi_gan.py --detector zn --rows published
    python recipes/sdi_gan.py --halves --rows ours     # no Geant4 shower of the training is in the test
    python recipes/sdi_gan.py --data showers.root      # your own showers, or a folder with the npz pair
    python recipes/sdi_gan.py --preset paper --dry-run # what the published sizes and schedule would cost

All rows meet a critic on the same showers, as often; the table of trainings has the steps and the processor time that
each row took, with what precedes the critic of ours in a row of its own. Of lambda_in the appendix has 1e-10, for the
squared difference of sums over a whole batch of images; for eq. 4 as it is printed, in photons of a response, that is
no term at all, and 1e-3 is taken, as in the authors' later code (`--lambdas 0.1 1e-10 1e-3 --out runs/appendix` is the
appendix' best; its grid is 0.01, 0.1, 1 for diversity, 1e-7 to 1e-11 for intensity, 1e-4, 1e-3, 1e-2 for the auxiliary
regressor). Interrupted, the same command goes on where it stopped.
"""

from functools import partial

from zdckeras.command import refuse, run
from zdckeras.data.detectors import get_detector
from zdckeras.data.particles import Scaler
from zdckeras.data.repeats import log_diversity
from zdckeras.gan.generator import GanGenerator, Training, fit_factor, training_rows
from zdckeras.gan.images import ImageGAN, ImageGanGenerator
from zdckeras.gan.model import ResponseGAN, score_stages, training_arrays
from zdckeras.gan.published_vit import published_vit_critic, published_vit_generator
from zdckeras.metrics.channels import Residuals, ws
from zdckeras.metrics.classifier import pixel_auc
from zdckeras.metrics.diversity import DIVERSITY_SPECIES, diversity_ratios
from zdckeras.metrics.report import in_floors, noise_seed, text_table
from zdckeras.metrics.trainings import SUMMARY, by_row, ordering, over_seeds, values_by_row
from zdckeras.recipe import (
    command_line,
    judged,
    preset_for,
    recipe_data,
    recipe_states,
    save_models,
    write_results,
)
from zdckeras.training.adversarial import train_adversarially, warm_start_scores
from zdckeras.training.cost import printed_cost, timed

PRESETS = {
    "laptop": dict(
        train=50_000, validation=5_000, test=10_000, generations=3, pixels=2_000, generator={}, critic={},
        divide=16, divide_critic=4, vit=dict(hidden=32, depth=2),
        published={"zp": dict(epochs=1, batch=32, generator=1e-4, critic=1e-4),
                   "zn": dict(epochs=1, batch=64, generator=5e-4, critic=5e-4)},
        sums=dict(rows=100_000, epochs=12, batch=512, rate=2e-3),
        shape=dict(rows=50_000, epochs=4, batch=64, rate=1e-3),
        adversarial=dict(epochs=1, batch=64, generator=1e-4, critic=3e-4)),
    "paper": dict(
        train=275_000, validation=34_000, test=69_000, generations=5, pixels=7_000,
        studies={"zn": dict(train=214_746, validation=30_678, test=61_356)}, divide=1, divide_critic=1, vit={},
        longer={"published + aux. regressor": dict(epochs=350)},
        published={"zp": dict(epochs=300, batch=128, generator=1e-4, critic=1e-5, regressor=1e-4),
                   "zn": dict(epochs=100, batch=256, generator=1e-4, critic=1.4e-5)},
        generator=dict(hidden=512, widths=(512, 512), channels=(256, 128, 64), spots=12),
        critic=dict(hidden=(512, 256), channels=(64, 128, 256), code=128),
        sums=dict(rows=275_000, epochs=40, batch=512, rate=1e-3),
        shape=dict(rows=275_000, epochs=20, batch=256, rate=1e-3),
        adversarial=dict(epochs=100, batch=256, generator=1e-4, critic=3e-4)),
    "smoke": dict(
        train=64, validation=48, test=128, generations=2, pixels=0,
        rows={"zp": ("published + aux. regressor",), "zn": ("published GAN + L2",)},
        divide=64, divide_critic=16, vit=dict(hidden=8, heads=2, depth=1),
        published=dict.fromkeys(("zp", "zn"), dict(epochs=1, batch=32, generator=1e-3, critic=1e-4)),
        generator=dict(hidden=16, widths=(16,), channels=(8, 4, 2), spots=2),
        critic=dict(hidden=(16, 8), channels=(2, 4, 4), code=4),
        sums=dict(rows=64, epochs=1, batch=32, rate=1e-3), shape=dict(rows=64, epochs=1, batch=32, rate=1e-3),
        adversarial=dict(epochs=1, batch=32, generator=1e-4, critic=3e-4)),
}
ADAM = {"zp": {}, "zn": {  # the proton study has Keras's own
    "generator": dict(beta_1=0.76, beta_2=0.54, epsilon=1.8e-2, nesterov=True,
                      cycle=dict(rise=0.34, start=260.0, end=9500.0)),
    "critic": dict(beta_1=0.97, beta_2=0.96, epsilon=3.7e-5, cycle=dict(rise=0.43, start=41.0, end=1700.0))}}
STUDY = {"zp": ("published GAN", "published SDI-GAN", "published + intensity", "published + aux. regressor"),
         "zn": ("published GAN", "published SDI-GAN", "published GAN + L2")}  # in the order that each claims
LAMBDAS = {  # by row one more: diversity, intensity per photon, auxiliary per squared cell
    "zp": {"diversity": 0.1, "intensity": 1e-3, "auxiliary": 1e-3}, "zn": {"diversity": 1.0}}
L2 = 1e-3  # per cell, the sum over which is what the neutron study weighs so
OURS = {"energy": 1.0, "diversity": 1e-2, "intensity": 1e-3, "auxiliary": 1e-3}
PENALTY, MOMENTUM = 0.5, 0.995
START = "ours, before the critic"
OTHER = "first half, simulated"  # with --halves


def published_rows(detector, lambdas=None):
    """Row of the detector's study -> weights of its terms."""
    terms = list(zip(LAMBDAS[detector], lambdas or LAMBDAS[detector].values(), strict=True))
    rows = {row: dict(terms[:k]) for k, row in enumerate(STUDY[detector])}
    return rows | ({"published GAN + L2": {"l2": L2 * get_detector(detector).cells}} if detector == "zn" else {})


def published_gan(detector, p, scaler, weights, seed=0):
    """The networks of the detector's study, with terms of these weights."""
    if detector == "zp":
        return ImageGAN.published(detector, scaler, p["divide"], p["divide_critic"], seed=seed, weights=weights)
    return ImageGAN(published_vit_generator(detector, seed=seed, **p["vit"]),
                    published_vit_critic(detector, seed=seed, **p["vit"]), detector, scaler, weights)


def published_arrays(showers, arrays):
    """`training_arrays` with the diversity that the neutron study has: that of ln(1 + n)."""
    log = {"diversity_zn": log_diversity(showers).astype("float32")} if "diversity_zn" in arrays else {}
    return arrays | log


def schedule(p, detector, row):
    """Epochs, batch and rates of a published row."""
    return p["published"][detector] | p.get("longer", {}).get(row, {})


def dry_run(args, p, rows):
    """What the training of every published row would cost."""
    for row, weights in rows.items():
        passes = published_gan(args.detector, p, {"mean": [0.0] * 9, "scale": [1.0] * 9}, weights).passes()
        printed_cost({f"{row}, {name}": one for name, one in passes.items()}, p["train"],
                     schedule(p, args.detector, row))


def train_models(args, p, data, rows):
    """Every row with every seed: "<row>, seed <k>" -> `Training`.

    Where no particle occurs twice, its diversity is not known, and the term that needs it is left out.
    """
    states = recipe_states(args, p, rows, OURS, PENALTY, MOMENTUM, data=data)
    detector, scaler = data.test.detector().name, Scaler.fit(data.training.particles).get_config()
    arrays, kinds, trained = training_arrays(data.training, data.repeats), {}, {}
    study = published_arrays(data.training, arrays)

    def known(weights):
        return {name: weight for name, weight in weights.items() if data.repeats or name != "diversity"}

    def adversarial(gan, arrays, path, seed, settings, **adam):
        history, seconds = timed(partial(train_adversarially, gan, arrays, path, seed=seed, **settings, **adam))
        return history, seconds, len(history["loss"]) * (len(data.training) // settings["batch"])

    for k in range(args.seeds):
        seed, folder = args.seed + k, states / f"seed{k}"
        for row, weights in rows.items():
            gan = published_gan(detector, p, scaler, known(weights), seed)
            taken = adversarial(gan, study, folder / f"{row}.npz", seed, schedule(p, detector, row),
                                adam=ADAM[detector])
            generator = kinds.setdefault("published", ImageGanGenerator.of(gan))
            trained[f"{row}, seed {k}"] = Training(generator, generator.network, gan.generator.get_weights(), *taken)
        if args.rows == "published":
            continue
        gan = ResponseGAN.fit_scales(data.training, weights=known(OURS), penalty=PENALTY, momentum=MOMENTUM, seed=seed,
                                     generator=p["generator"], critic=p["critic"])
        generator, stages = kinds.setdefault("ours", GanGenerator(gan.average)), score_stages(
            gan, data.more, p["sums"], p["shape"])
        _, begun = timed(partial(warm_start_scores, gan, stages, folder, seed))
        trained[f"{START}, seed {k}"] = Training(generator, generator.network, gan.average.get_weights(), {}, begun, 0)
        history, seconds, steps = adversarial(gan, arrays, folder / "ours.npz", seed, p["adversarial"])
        trained[f"ours, seed {k}"] = Training(generator, generator.network, gan.average.get_weights(), history,
                                              begun + seconds, steps)
    return trained


def judge_models(args, p, data, trained):
    """The tables on the test set; factors on the light are fitted on the validation set."""
    real, other = [data.test.response, *data.floor], [again.response for again in data.other]
    answers = {OTHER: lambda _, seed: other[seed[1] % len(other)]} if other else {}
    table = judged(args, data, answers | {name: one.sample for name, one in trained.items()}, p["generations"])
    for name, score in table.scores.items():
        draws = other if name == OTHER else real
        score["factor"], scaled = 1.0, draws[-1]
        if name in trained:
            one = trained[name]
            draws = [one.sample(data.test.particles, noise_seed(name, args.seed, k)) for k in range(len(real))]
            light = one.sample(data.validation.particles, args.seed)
            score["factor"] = fit_factor(data.validation.response, light) if light.any() else 1.0
            one.generator.factors = [score["factor"]]
            scaled = one.sample(data.test.particles, args.seed)
            one.generator.factors = [1.0]
        score["diversity"] = diversity_ratios(real, draws, data.test.pdg) if len(real) > 1 else {}
        score["WS with factor"] = ws(Residuals.between(data.test.response, scaled))
        score["pixels"] = pixel_auc(data.test.response, draws[-1], args.seed, p["pixels"]) if p["pixels"] else None
        score["WS proton"] = ws(Residuals.between(data.test.response, draws[-1], "proton-paper"))
    columns = {"WS": SUMMARY["WS"], "with factor": lambda s: s["WS with factor"],
               "proton channels": lambda s: s["WS proton"], **{name: SUMMARY[name] for name in ("MAE", "RMSE", "AUC")}}
    columns |= {"AUC pixels": lambda s: s["pixels"]} if p["pixels"] else {}
    columns |= {name: lambda s, name=name: s["shapes"][name]["distance"] for name in ("width", "lit", "core")}
    columns |= {f"D({name})": lambda s, name=name: s["diversity"][name] for name, code in DIVERSITY_SPECIES.items()
                if len(real) > 1 and (data.test.pdg == code).any()}
    parts = [text_table(over_seeds(table.scores, columns)), text_table(training_rows(trained, data.test.particles))]
    return table, "\n\n".join([*parts, "\n".join(verdicts(table.scores))])


def verdicts(scores):
    """What the table says of the ordering that the study claims, of its last row against ours, and of the last row."""
    found = values_by_row(scores)
    order, last = [row for row in found if row.startswith("published")], list(found)[-1]
    if len(order) > 1:
        yield f"published rows: {ordering({row: found[row] for row in order})}"
    if order and "ours" in found:
        yield f"published and ours: {ordering({order[-1]: found[order[-1]], 'ours': found['ours']})}"
    yield f"{last}: WS {in_floors(sum(found[last]) / len(found[last]), found.get('floor', [None])[0])}"


def main():
    parser = command_line(__doc__, PRESETS, "runs/sdi_gan", ("zp", "zn"), trainings=3, half=True, dry=True,
                          halves=True)
    parser.add_argument("--rows", choices=("all", "published", "ours"), default="all", help="the papers' and ours, or "
                        "these alone")
    parser.add_argument("--lambdas", type=float, nargs="+", metavar="WEIGHT", help="of the published terms: "
                        "diversity, and for zp intensity and auxiliary regressor")
    args = parser.parse_args()
    if args.lambdas and len(args.lambdas) != len(LAMBDAS[args.detector]):
        refuse(f"argument --lambdas: expected the weights of {', '.join(LAMBDAS[args.detector])} for {args.detector}, "
               f"received {len(args.lambdas)} numbers")
    if args.rows == "ours" and (args.lambdas or args.dry_run):
        refuse("argument --rows: --lambdas and --dry-run are of published rows, received ours alone")
    p, rows = preset_for(PRESETS, args.preset, args.detector), published_rows(args.detector, args.lambdas)
    if args.dry_run:
        return dry_run(args, p, rows)
    data = recipe_data(args, p, more=p["sums"]["rows"], draws=range(1, p["generations"]))
    rows = {row: rows[row] for row in p.get("rows", STUDY)[args.detector] if args.rows != "ours" and (
        data.repeats or row != "published SDI-GAN")}
    trained = train_models(args, p, data, rows)
    kept = {"published": f"{list(rows)[-1]}, seed 0"} if rows else {}
    kept |= {"generator": "ours, seed 0"} if args.rows != "published" else {}
    save_models(args, data, {f"{kind}.keras": trained[name].ready() for kind, name in kept.items()})
    table, text = judge_models(args, p, data, trained)
    first = {row: trainings[0] for row, trainings in by_row(trained).items()}
    write_results(args, "ablation.txt", text, table, data.test, {row: one.sample for row, one in first.items()},
                  {row: one.history for row, one in first.items() if one.history})


if __name__ == "__main__":
    run(main)
