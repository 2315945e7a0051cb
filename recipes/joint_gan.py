"""One generator for both calorimeters of a particle, against one for each: the joint model of the ZDC poster.

What the poster did: a modified SDI-GAN whose generator has two outputs, ZN and ZP, and whose critic has two inputs and
two outputs; it compares the Wasserstein distance of the channels and the time with those of separate models. All are
trained here on the same particles, those that light at least one of the two.

    python recipes/joint_gan.py                        # embedded data
    python recipes/joint_gan.py --data showers.root    # your own, with responses of both detectors

Interrupted, the same command goes on where it stopped. 33 minutes on two busy cores; the joint model's WS is 2.05 on ZN
(separate 2.08, floor 0.94) and 1.14 on ZP (1.20, 0.39), in 0.57 of the time.
"""

from zdckeras.command import run
from zdckeras.gan.generator import GanGenerator
from zdckeras.gan.model import ResponseGAN, score_stages, training_arrays
from zdckeras.generators import milliseconds
from zdckeras.metrics.diversity import DIVERSITY_SPECIES, diversity_ratios
from zdckeras.metrics.report import judge, over_seeds, text_table
from zdckeras.plots import write_pictures
from zdckeras.recipe import PICTURED, command_line, recipe_data, recipe_states, save_models, write_text
from zdckeras.training.adversarial import train_adversarially, warm_start_scores

PRESETS = {
    "laptop": dict(
        train=50_000, test=10_000, generations=3, generator={}, joint=dict(channels=(32, 16, 8)), critic={},
        sums=dict(rows=100_000, epochs=16, batch=512, rate=2e-3),
        shape=dict(rows=50_000, epochs=4, batch=64, rate=1e-3),
        adversarial=dict(epochs=1, batch=64, generator=1e-4, critic=3e-4)),
    "smoke": dict(
        train=128, test=128, generations=2, generator=dict(hidden=16, widths=(16,), channels=(8, 4, 2), spots=2),
        joint=dict(hidden=16, widths=(16,), channels=(4, 4, 2), spots=2),
        critic=dict(hidden=(16, 8), channels=(2, 4, 4), code=4),
        sums=dict(rows=128, epochs=1, batch=64, rate=1e-3), shape=dict(rows=128, epochs=1, batch=64, rate=1e-3),
        adversarial=dict(epochs=1, batch=64, generator=1e-4, critic=3e-4)),
}
BOTH = ("zn", "zp")
GAN_WEIGHTS = {"energy": 1.0, "diversity": 1e-2, "intensity": 1e-3, "auxiliary": 1e-3}
PENALTY, MOMENTUM = 0.5, 0.995
COLUMNS = {"WS": lambda s: s["metrics"]["all"]["WS"][0], "MAE": lambda s: s["metrics"]["all"]["MAE"][0],
           "AUC": lambda s: s["auc"]}
COLUMNS |= {name: lambda s, name=name: s["shapes"][name]["distance"] for name in ("width", "lit", "core")}
DIVERSITIES = {f"D({name})": lambda s, name=name: s["diversity"][name] for name in DIVERSITY_SPECIES}


def train_models(args, p, data):
    """One model for each detector and one for both, with every seed: generators and histories by name."""
    states = recipe_states(args, p, GAN_WEIGHTS, PENALTY, MOMENTUM, data=data)
    terms = {name: weight for name, weight in GAN_WEIGHTS.items() if data.repeats or name != "diversity"}
    generators, histories = {}, {}
    for seed in range(args.seeds):
        for kind, detectors in (*((name, (name,)) for name in BOTH), ("joint", BOTH)):
            name, folder, training = f"{kind}, seed {seed}", states / f"{kind}{seed}", data.training.only(*detectors)
            gan = ResponseGAN.fit_scales(training, weights=terms, penalty=PENALTY, momentum=MOMENTUM, seed=seed,
                                         generator=p["joint" if kind == "joint" else "generator"], critic=p["critic"])
            print(f"\n{name}: {gan.generator.count_params():,} weights, "
                  f"{gan.generator.operations() / 1e6:.1f} MFLOP a particle")
            stages = score_stages(gan, data.more.only(*detectors), p["sums"], p["shape"])
            warm_start_scores(gan, stages, folder, seed)
            histories[name] = train_adversarially(gan, training_arrays(training, data.repeats), folder / "GAN.npz",
                                                  seed=seed, **p["adversarial"])
            generators[name] = GanGenerator(gan.average)
    return generators, histories


def sampler(generator, detector):
    """A function of (conditions, seed): responses of one of the generator's detectors."""
    def sample(conditions, seed):
        made = generator.sample(conditions, seed)
        return made[detector] if isinstance(made, dict) else made
    return sample


def judge_models(args, p, data, generators, detector):
    """Samplers of one detector by name, and their table on the test set."""
    samplers = {f"{detector} {kind}, seed {seed}": sampler(generators[f"{name}, seed {seed}"], detector)
                for seed in range(args.seeds) for kind, name in (("separate", detector), ("joint", "joint"))}
    real, floor = data.test.only(detector), [again.response_of(detector) for again in data.resimulated]
    table = judge(real, floor, samplers, p["generations"], args.seed)
    draws = [real.response, *floor]
    for name, score in table.scores.items():
        made = draws if name == "floor" else [samplers[name](real.particles, [args.seed, k]) for k in range(len(draws))]
        score["diversity"] = diversity_ratios(draws, made, real.pdg) if floor else {}
    table.provenance = data.provenance
    return samplers, table


def times(generators, particles):
    """Lines on how long batches of pairs take, from separate models and from the joint one."""
    groups = {"separate": [generators[f"{name}, seed 0"] for name in BOTH], "joint": [generators["joint, seed 0"]]}
    for batch in (1, 256):
        taken = milliseconds(groups, particles, batch)
        yield (f"time of a batch of {batch} pairs: separate {taken['separate']:.1f} ms, "
               f"joint {taken['joint']:.1f} ms, ratio {taken['joint'] / taken['separate']:.2f}")


def main():
    args = command_line(__doc__, PRESETS, "runs/joint_gan", trainings=1, half=True).parse_args()
    p = PRESETS[args.preset]
    data = recipe_data(args, p, "zn+zp", more=p["sums"]["rows"])
    generators, histories = train_models(args, p, data)
    save_models(args, data, {"joint.keras": generators["joint, seed 0"]})
    lines = []
    for detector in BOTH:
        samplers, table = judge_models(args, p, data, generators, detector)
        summary = over_seeds(table.scores, COLUMNS | (DIVERSITIES if data.resimulated else {}))
        lines += summary if not lines else summary[1:]
        table.write(args.out / detector)
        some = data.test.only(detector)[:PICTURED]
        shown = {name: sample(some.particles, args.seed) for name, sample in samplers.items()}
        write_pictures(args.out / detector, some, shown, histories)
    write_text(args.out / "joint.txt", "\n".join([text_table(lines), "", *times(generators, data.test.particles)]),
               data.provenance)
    print(f"tables, pictures and joint.keras are in {args.out}")


if __name__ == "__main__":
    run(main)
