"""The ablation of the proton ZDC study: GAN -> SDI-GAN -> with intensity -> with auxiliary regressor.

What the study did (Bedkowski et al., "Deep generative models for proton Zero Degree Calorimeter simulations in ALICE,
CERN"): a conditional GAN, then one more term at a time, judged by the Wasserstein distance of the five channels over
five trainings. Here all rows start from the same generator, warmed up without a critic (see
`zdckeras.gan.model`), and keep its energy score as a term beside the adversarial one.

    python recipes/sdi_gan.py                          # embedded data, proton calorimeter, two seeds
    python recipes/sdi_gan.py --detector zn --seeds 5
    python recipes/sdi_gan.py --data showers.root      # your own showers, or a folder with the npz pair

Interrupted, the same command goes on where it stopped. 26 minutes of processor time; the last row's WS is 1.76 where
the floor's is 0.94.
"""

from itertools import pairwise

from zdckeras.command import run
from zdckeras.gan.generator import GanGenerator, fit_factor
from zdckeras.gan.model import ResponseGAN, score_stages, training_arrays
from zdckeras.metrics.channels import Residuals, ws
from zdckeras.metrics.diversity import DIVERSITY_SPECIES, diversity_ratios
from zdckeras.metrics.report import over_seeds, text_table
from zdckeras.recipe import command_line, in_floors, judged, recipe_data, recipe_states, save_models, write_results
from zdckeras.training.adversarial import train_adversarially, warm_start_scores

PRESETS = {
    "laptop": dict(
        train=50_000, validation=5_000, test=10_000, generations=3, generator={}, critic={},
        sums=dict(rows=100_000, epochs=12, batch=512, rate=2e-3),
        shape=dict(rows=50_000, epochs=4, batch=64, rate=1e-3),
        adversarial=dict(epochs=1, batch=64, generator=1e-4, critic=3e-4)),
    "paper": dict(
        train=300_000, validation=40_000, test=60_000, generations=5,
        generator=dict(hidden=512, widths=(512, 512), channels=(256, 128, 64), spots=12),
        critic=dict(hidden=(512, 256), channels=(64, 128, 256), code=128),
        sums=dict(rows=300_000, epochs=40, batch=512, rate=1e-3),
        shape=dict(rows=300_000, epochs=20, batch=256, rate=1e-3),
        adversarial=dict(epochs=100, batch=256, generator=1e-4, critic=3e-4)),
    "smoke": dict(
        train=128, validation=64, test=128, generations=2, rows=("GAN", "SDI-GAN + intensity + aux. regressor"),
        generator=dict(hidden=16, widths=(16,), channels=(8, 4, 2), spots=2),
        critic=dict(hidden=(16, 8), channels=(2, 4, 4), code=4),
        sums=dict(rows=128, epochs=1, batch=64, rate=1e-3), shape=dict(rows=128, epochs=1, batch=64, rate=1e-3),
        adversarial=dict(epochs=1, batch=64, generator=1e-4, critic=3e-4)),
}
BASE = {"energy": 1.0}
MODEL_WEIGHTS = {"GAN": {}, "SDI-GAN": {"diversity": 1e-2}}
MODEL_WEIGHTS["SDI-GAN + intensity"] = MODEL_WEIGHTS["SDI-GAN"] | {"intensity": 1e-3}
MODEL_WEIGHTS["SDI-GAN + intensity + aux. regressor"] = MODEL_WEIGHTS["SDI-GAN + intensity"] | {"auxiliary": 1e-3}
PENALTY, MOMENTUM = 0.5, 0.995


def train_models(args, p, data, rows):
    """Every row with every seed, from the warm start of the seed: a generator, weights for it, and histories.

    Where no particle occurs twice, its diversity is not known, and the term that needs it is left out.
    """
    states = recipe_states(args, p, BASE, MODEL_WEIGHTS, PENALTY, MOMENTUM, data=data)
    arrays, weights, histories = training_arrays(data.training, data.repeats), {}, {}
    for seed in range(args.seeds):
        for row in rows:
            terms = {name: weight for name, weight in MODEL_WEIGHTS[row].items() if data.repeats or name != "diversity"}
            gan = ResponseGAN.fit_scales(data.training, weights=BASE | terms, penalty=PENALTY, momentum=MOMENTUM,
                                         seed=seed, generator=p["generator"], critic=p["critic"])
            if not weights:
                generator = GanGenerator(gan.average)
                print(f"generator: {gan.generator.count_params():,} weights, {gan.generator.operations() / 1e6:.1f} "
                      f"MFLOP a response; critic: {gan.critic.count_params():,} weights")
            stages = score_stages(gan, data.more, p["sums"], p["shape"])
            warm_start_scores(gan, stages, states / f"seed{seed}", seed)
            weights.setdefault(f"start, seed {seed}", gan.average.get_weights())
            name, path = f"{row}, seed {seed}", states / f"seed{seed}" / f"{row}.npz"
            histories[name] = train_adversarially(gan, arrays, path, seed=seed, **p["adversarial"])
            weights[name] = gan.average.get_weights()
    return generator, weights, histories


def sampler(generator, weights, factor=1.0):
    """A function of (conditions, seed): the generator with these weights and this factor on its light."""
    def sample(conditions, seed):
        generator.network.set_weights(weights)
        generator.factors = factor
        return generator.sample(conditions, seed)
    return sample


def judge_models(args, p, data, generator, weights, rows):
    """The table on the test set, and its summary; factors on the light are fitted on the validation set."""
    samplers = {name: sampler(generator, values) for name, values in weights.items()}
    table = judged(args, data, samplers, p["generations"])
    real = [data.test.response, *data.floor]
    for name, score in table.scores.items():
        if name == "floor":
            draws, factor, scaled = real, 1.0, data.floor[0]
        else:
            draws = [samplers[name](data.test.particles, [args.seed, k]) for k in range(len(real))]
            factor = fit_factor(data.validation.response, samplers[name](data.validation.particles, args.seed))
            scaled = sampler(generator, weights[name], factor)(data.test.particles, args.seed)
        score["factor"] = factor
        score["diversity"] = diversity_ratios(real, draws, data.test.pdg) if len(real) > 1 else {}
        score["WS with factor"] = ws(Residuals.between(data.test.response, scaled))
    columns = {"WS": lambda s: s["metrics"]["all"]["WS"][0], "WS with factor": lambda s: s["WS with factor"],
               "MAE": lambda s: s["metrics"]["all"]["MAE"][0], "AUC": lambda s: s["auc"]}
    columns |= {name: lambda s, name=name: s["shapes"][name]["distance"] for name in ("width", "lit", "core")}
    columns |= {f"D({name})": lambda s, name=name: s["diversity"][name] for name, code in DIVERSITY_SPECIES.items()
                if len(real) > 1 and (data.test.pdg == code).any()}
    summary = over_seeds(table.scores, columns)
    mean = {line[0]: float(line[2].split()[0]) for line in summary[1:]}
    ordered = all(mean[a] > mean[b] for a, b in pairwise(rows))
    verdict = (f"the ordering of the study, WS falling from row to row, is {'' if ordered else 'not '}seen here; "
               f"the last row's WS is {in_floors(mean[rows[-1]], mean.get('floor'))}")
    return table, "\n".join([text_table(summary), "", verdict])


def main():
    args = command_line(__doc__, PRESETS, "runs/sdi_gan", ("zp", "zn"), trainings=2, half=True).parse_args()
    p = PRESETS[args.preset]
    data = recipe_data(args, p, more=p["sums"]["rows"], draws=range(1, p["generations"]))
    rows = [row for row in p.get("rows", MODEL_WEIGHTS) if data.repeats or row != "SDI-GAN"]  # GAN + diversity
    generator, weights, histories = train_models(args, p, data, rows)
    generator.network.set_weights(weights[f"{rows[-1]}, seed 0"])
    save_models(args, data, {"generator.keras": generator})
    table, text = judge_models(args, p, data, generator, weights, rows)
    shown = {name: sampler(generator, weights[f"{name}, seed 0"]) for name in rows}
    write_results(args, "ablation.txt", text, table, data.test, shown,
                  {name: histories[f"{name}, seed 0"] for name in rows})


if __name__ == "__main__":
    run(main)
