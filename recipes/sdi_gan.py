"""The ablation of the proton ZDC study: GAN -> SDI-GAN -> with intensity -> with auxiliary regressor.

What the study did (Bedkowski et al., "Deep generative models for proton Zero Degree Calorimeter simulations in ALICE,
CERN"): a conditional GAN, then one more term at a time, judged by the Wasserstein distance of the five channels over
five trainings. Here all rows start from the same generator, warmed up without a critic (see
`zdckeras.gan.scores`), and keep its energy score as a term beside the adversarial one.

    python recipes/sdi_gan.py                          # embedded data, proton calorimeter, two seeds
    python recipes/sdi_gan.py --detector zn --seeds 5
    python recipes/sdi_gan.py --data showers.root      # your own showers, or a folder with the npz pair

Interrupted, the same command goes on where it stopped.
"""

from itertools import pairwise

from zdckeras.data.atomic import atomic_path
from zdckeras.gan.generator import GanGenerator, fit_factor
from zdckeras.gan.model import ResponseGAN, training_arrays
from zdckeras.gan.warm_start import score_stages
from zdckeras.metrics.channels import Residuals, ws
from zdckeras.metrics.diversity import DIVERSITY_SPECIES, diversity_ratios
from zdckeras.metrics.report import judge, over_seeds, text_table
from zdckeras.plots import write_pictures
from zdckeras.recipe import command_line, showers_for
from zdckeras.training.adversarial import train_adversarially, warm_start_scores
from zdckeras.training.loop import states_folder

PRESETS = {
    "laptop": dict(
        train=50_000, validation=5_000, test=10_000, generations=3, generator={}, critic={},
        sums=dict(rows=100_000, epochs=12, batch=512, rate=2e-3),
        shape=dict(rows=50_000, epochs=4, batch=64, rate=1e-3),
        play=dict(epochs=1, batch=64, generator=1e-4, critic=3e-4)),
    "paper": dict(
        train=300_000, validation=40_000, test=60_000, generations=5,
        generator=dict(hidden=512, widths=(512, 512), channels=(256, 128, 64), spots=12),
        critic=dict(hidden=(512, 256), channels=(64, 128, 256), code=128),
        sums=dict(rows=300_000, epochs=40, batch=512, rate=1e-3),
        shape=dict(rows=300_000, epochs=20, batch=256, rate=1e-3),
        play=dict(epochs=100, batch=256, generator=1e-4, critic=3e-4)),
    "smoke": dict(
        train=256, validation=64, test=128, generations=2,
        generator=dict(hidden=16, widths=(16,), channels=(8, 4, 2), spots=2),
        critic=dict(hidden=(16, 8), channels=(2, 4, 4), code=4),
        sums=dict(rows=256, epochs=1, batch=64, rate=1e-3), shape=dict(rows=256, epochs=1, batch=64, rate=1e-3),
        play=dict(epochs=1, batch=64, generator=1e-4, critic=3e-4)),
}
BASE = {"energy": 1.0}
MODEL_WEIGHTS = {"GAN": {}, "SDI-GAN": {"diversity": 1e-2}}
MODEL_WEIGHTS["SDI-GAN + intensity"] = MODEL_WEIGHTS["SDI-GAN"] | {"intensity": 1e-3}
MODEL_WEIGHTS["SDI-GAN + intensity + aux. regressor"] = MODEL_WEIGHTS["SDI-GAN + intensity"] | {"auxiliary": 1e-3}
PENALTY, MOMENTUM = 0.5, 0.995


def main():
    args = command_line(__doc__, PRESETS, "runs/sdi_gan", ("zp", "zn"), trainings=2).parse_args()
    p, out = PRESETS[args.preset], args.out
    states = states_folder(out, p, BASE, MODEL_WEIGHTS, PENALTY, MOMENTUM, args.detector, args.data, args.seed)

    # data
    sizes = p | {"train": max(p["train"], p["sums"]["rows"])}
    draws = range(1, p["generations"])
    more, validation, test, resimulated = showers_for(args.detector, args.data, sizes, draws, args.seed)
    resimulated = [again.response for again in resimulated]
    training = more[: p["train"]]
    arrays = training_arrays(training)

    # train every row with every seed, from the common start of the seed
    weights, histories = {}, {}
    for seed in range(args.seeds):
        for row, terms in MODEL_WEIGHTS.items():
            gan = ResponseGAN.fit_scales(training, weights=BASE | terms, penalty=PENALTY, momentum=MOMENTUM, seed=seed,
                                         generator=p["generator"], critic=p["critic"])
            if not weights:
                generator = GanGenerator(gan.average)
                print(f"generator: {gan.generator.count_params():,} weights, {gan.generator.operations() / 1e6:.1f} "
                      f"MFLOP a response; critic: {gan.critic.count_params():,} weights")
            warm_start_scores(gan, score_stages(gan, more, p["sums"], p["shape"]), states / f"seed{seed}", seed)
            weights.setdefault(f"start, seed {seed}", gan.average.get_weights())
            name = f"{row}, seed {seed}"
            histories[name] = train_adversarially(gan, arrays, states / f"seed{seed}" / f"{row}.npz", seed=seed,
                                                  **p["play"])
            weights[name] = gan.average.get_weights()

    # judge on the test set; the factor on the light is fitted on the validation set
    def sampler(name, factor=None):
        def sample(conditions, seed):
            generator.network.set_weights(weights[name])
            generator.factors = factor or 1.0
            return generator.sample(conditions, seed)
        return sample

    table = judge(test, resimulated, {name: sampler(name) for name in weights}, p["generations"], args.seed)
    real = [test.response, *resimulated]
    for name, score in table.scores.items():
        draws = real if name == "floor" else [sampler(name)(test.particles, [args.seed, k]) for k in range(len(real))]
        score["diversity"] = diversity_ratios(real, draws, test.pdg)
        score["factor"], scaled = 1.0, resimulated[0]
        if name != "floor":
            score["factor"] = fit_factor(validation.response, sampler(name)(validation.particles, args.seed))
            scaled = sampler(name, score["factor"])(test.particles, args.seed)
        score["WS with factor"] = ws(Residuals.between(test.response, scaled))
    columns = {"WS": lambda s: s["metrics"]["all"]["WS"][0], "WS with factor": lambda s: s["WS with factor"],
               "MAE": lambda s: s["metrics"]["all"]["MAE"][0], "AUC": lambda s: s["auc"]}
    columns |= {name: lambda s, name=name: s["shapes"][name]["distance"] for name in ("width", "lit", "core")}
    columns |= {f"D({name})": lambda s, name=name: s["diversity"][name] for name, code in DIVERSITY_SPECIES.items()
                if (test.pdg == code).any()}
    summary = over_seeds(table.scores, columns)
    mean = {line[0]: float(line[2].split()[0]) for line in summary[1:]}
    ordered = all(mean[a] > mean[b] for a, b in pairwise(MODEL_WEIGHTS))
    verdict = (f"the ordering of the study, WS falling from row to row, is {'' if ordered else 'not '}seen here; "
               f"the last row's WS is {mean[list(MODEL_WEIGHTS)[-1]] / mean['floor']:.2f} floors")
    print("\n" + text_table(summary) + f"\n\n{verdict}")

    # report, pictures, models
    table.write(out)
    with atomic_path(out / "ablation.txt") as path:
        path.write_text("\n".join([text_table(summary), "", verdict, ""]), encoding="utf-8")
    some = test[:2000]
    shown = {name: sampler(f"{name}, seed 0")(some.particles, args.seed) for name in MODEL_WEIGHTS}
    write_pictures(out, some, shown, {name: histories[f"{name}, seed 0"] for name in MODEL_WEIGHTS})
    generator.network.set_weights(weights[f"{list(MODEL_WEIGHTS)[-1]}, seed 0"])
    generator.save(out / "generator.keras")
    print(f"report, pictures and the generator of the last row are in {out}")


if __name__ == "__main__":
    main()
