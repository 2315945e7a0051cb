"""One generator for both calorimeters of a particle, against one for each: the joint model of the ZDC poster.

What the poster did: a modified SDI-GAN whose generator has two outputs, ZN and ZP, and whose critic has two inputs and
two outputs; it compares the Wasserstein distance of the channels and the time with those of separate models. All are
trained here on the same particles, those that light at least one of the two.

    python recipes/joint_gan.py                        # embedded data
    python recipes/joint_gan.py --data showers.root    # your own, with responses of both detectors

Interrupted, the same command goes on where it stopped.
"""

from zdckeras.data.atomic import atomic_path
from zdckeras.gan.generator import GanGenerator
from zdckeras.gan.model import ResponseGAN, training_arrays
from zdckeras.gan.warm_start import score_stages
from zdckeras.generators import milliseconds
from zdckeras.metrics.diversity import DIVERSITY_SPECIES, diversity_ratios
from zdckeras.metrics.report import judge, over_seeds, text_table
from zdckeras.plots import write_pictures
from zdckeras.recipe import command_line, showers_for
from zdckeras.training.adversarial import train_adversarially, warm_start_scores
from zdckeras.training.loop import states_folder

PRESETS = {
    "laptop": dict(
        train=100_000, test=10_000, generations=3, generator={}, joint=dict(channels=(32, 16, 8)), critic={},
        sums=dict(rows=100_000, epochs=16, batch=512, rate=2e-3),
        shape=dict(rows=50_000, epochs=4, batch=64, rate=1e-3),
        play=dict(rows=50_000, epochs=1, batch=64, generator=1e-4, critic=3e-4)),
    "smoke": dict(
        train=512, test=256, generations=2, generator=dict(hidden=16, widths=(16,), channels=(8, 4, 2), spots=2),
        joint=dict(hidden=16, widths=(16,), channels=(4, 4, 2), spots=2),
        critic=dict(hidden=(16, 8), channels=(2, 4, 4), code=4),
        sums=dict(rows=256, epochs=1, batch=64, rate=1e-3), shape=dict(rows=256, epochs=1, batch=64, rate=1e-3),
        play=dict(rows=256, epochs=1, batch=64, generator=1e-4, critic=3e-4)),
}
BOTH = ("zn", "zp")
GAN_WEIGHTS = {"energy": 1.0, "diversity": 1e-2, "intensity": 1e-3, "auxiliary": 1e-3}
PENALTY, MOMENTUM = 0.5, 0.995


def main():
    args = command_line(__doc__, PRESETS, "runs/joint_gan", trainings=1).parse_args()
    p, out = PRESETS[args.preset], args.out
    states = states_folder(out, p, GAN_WEIGHTS, PENALTY, MOMENTUM, args.data, args.seed)

    # data
    training, _, test, resimulated = showers_for("zn+zp", args.data, p, seed=args.seed)
    some = training[: p["play"]["rows"]]

    # train: one model for each detector, one for both
    generators, histories = {}, {}
    for seed in range(args.seeds):
        for kind, detector in (*((name, (name,)) for name in BOTH), ("joint", BOTH)):
            name, folder = f"{kind}, seed {seed}", states / f"{kind}{seed}"
            sizes = p["joint"] if kind == "joint" else p["generator"]
            gan = ResponseGAN.fit_scales(some.only(*detector), weights=GAN_WEIGHTS, penalty=PENALTY, momentum=MOMENTUM,
                                         seed=seed, generator=sizes, critic=p["critic"])
            print(f"\n{name}: {gan.generator.count_params():,} weights, "
                  f"{gan.generator.operations() / 1e6:.1f} MFLOP a particle")
            warm_start_scores(gan, score_stages(gan, training.only(*detector), p["sums"], p["shape"]), folder, seed)
            settings = {key: value for key, value in p["play"].items() if key != "rows"}
            histories[name] = train_adversarially(gan, training_arrays(some.only(*detector)), folder / "GAN.npz",
                                                  seed=seed, **settings)
            generators[name] = GanGenerator(gan.average)

    # judge each detector's part on the test set, and the clock on pairs
    def part(name, detector):
        def sample(conditions, seed):
            made = generators[name].sample(conditions, seed)
            return made[detector] if isinstance(made, dict) else made
        return sample

    columns = {"WS": lambda s: s["metrics"]["all"]["WS"][0], "MAE": lambda s: s["metrics"]["all"]["MAE"][0],
               "AUC": lambda s: s["auc"]} | {
        name: lambda s, name=name: s["shapes"][name]["distance"] for name in ("width", "lit", "core")} | {
        f"D({name})": lambda s, name=name: s["diversity"][name] for name in DIVERSITY_SPECIES}
    lines = []
    for detector in BOTH:
        models = {f"{detector} {kind}, seed {seed}": part(f"{name}, seed {seed}", detector)
                  for seed in range(args.seeds)
                  for kind, name in (("separate", detector), ("joint", "joint"))}
        real = test.only(detector)
        floor = [again.response_of(detector) for again in resimulated]
        table = judge(real, floor, models, p["generations"], args.seed)
        draws = [real.response, *floor]
        for model, score in table.scores.items():
            made = [models[model](real.particles, [args.seed, k]) if model in models else draw
                    for k, draw in enumerate(draws)]
            score["diversity"] = diversity_ratios(draws, made, real.pdg)
        table.write(out / detector)
        summary = over_seeds(table.scores, columns)
        lines += summary if not lines else summary[1:]
        print(text_table(summary) + "\n")
        shown = {model: sample(real.particles[:2000], args.seed) for model, sample in models.items()}
        write_pictures(out / detector, real[:2000], shown, histories)
    groups = {"separate": [generators[f"{name}, seed 0"] for name in BOTH], "joint": [generators["joint, seed 0"]]}
    clock = []
    for batch in (1, 256):
        times = milliseconds(groups, test.particles, batch)
        clock.append(f"time of a batch of {batch} pairs: separate {times['separate']:.1f} ms, "
                     f"joint {times['joint']:.1f} ms, ratio {times['joint'] / times['separate']:.2f}")
    print("\n".join(clock))

    # report and model
    with atomic_path(out / "joint.txt") as path:
        path.write_text("\n".join([text_table(lines), "", *clock, ""]), encoding="utf-8")
    generators["joint, seed 0"].save(out / "joint.keras")
    print(f"report, pictures and the joint generator are in {out}")


if __name__ == "__main__":
    main()
