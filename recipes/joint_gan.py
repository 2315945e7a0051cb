"""One generator for both calorimeters of a particle, against one for each: the poster's joint model, and ours.

What the poster did: a modified SDI-GAN whose generator has two outputs, ZN and ZP, and whose critic has two inputs and
two outputs; it compares the Wasserstein distance of the channels and the time with those of separate models: WS 8.76
(ZN) and 6.69 (ZP) jointly, 9.01 and 8.91 separately, 9.39 s against 19.54 s. The published rows are that model and the
separate ones (`zdckeras.gan.published`; laptop: a thirty-second of the generator's channels); ours
(`zdckeras.gan.model`) decide channel sums first and start from proper scores. All are trained here on the same
particles, those that light at least one of the two, and meet a critic on as many.

    python recipes/joint_gan.py                        # embedded data
    python recipes/joint_gan.py --rows published --seeds 3
    python recipes/joint_gan.py --data showers.root    # your own, with responses of both detectors
    python recipes/joint_gan.py --preset paper --dry-run

Interrupted, the same command goes on where it stopped. Of the published rows, three trainings each, too short to tell
the poster's ordering (see recipes/README.md); of ours, one training: the joint model's WS is 1.90 on ZN
(separate 1.68, floor 0.82) and 0.92 on ZP (1.18, 0.56), in 0.56 of the time; from one training nothing is concluded.
"""

from functools import partial

from zdckeras.command import run
from zdckeras.data.particles import Scaler
from zdckeras.gan.generator import GanGenerator, Training, training_rows
from zdckeras.gan.images import ImageGAN, ImageGanGenerator
from zdckeras.gan.model import ResponseGAN, score_stages, training_arrays
from zdckeras.metrics.classifier import pixel_auc
from zdckeras.metrics.diversity import DIVERSITY_SPECIES, diversity_ratios
from zdckeras.metrics.report import judge, noise_seed, text_table
from zdckeras.metrics.times import milliseconds
from zdckeras.metrics.trainings import SUMMARY, ordering, over_seeds
from zdckeras.plots import write_pictures
from zdckeras.recipe import PICTURED, command_line, recipe_data, recipe_states, save_models, write_text
from zdckeras.training.adversarial import train_adversarially, warm_start_scores
from zdckeras.training.cost import printed_cost, timed

PRESETS = {
    "laptop": dict(
        train=50_000, test=10_000, generations=3, pixels=1_000,
        generator={}, joint=dict(channels=(32, 16, 8)), critic={},
        divide=32, divide_critic=4, published=dict(epochs=1, batch=32, generator=1e-4, critic=1e-4),
        sums=dict(rows=100_000, epochs=16, batch=512, rate=2e-3),
        shape=dict(rows=50_000, epochs=4, batch=64, rate=1e-3),
        adversarial=dict(epochs=1, batch=64, generator=1e-4, critic=3e-4)),
    "paper": dict(
        train=275_000, test=69_000, generations=5, pixels=7_000, generator={}, joint={}, critic={},
        divide=1, divide_critic=1, published=dict(epochs=200, batch=128, generator=1e-4, critic=1e-4),
        sums=dict(rows=275_000, epochs=16, batch=512, rate=2e-3),
        shape=dict(rows=275_000, epochs=4, batch=64, rate=1e-3),
        adversarial=dict(epochs=20, batch=256, generator=1e-4, critic=3e-4)),
    "smoke": dict(
        train=64, test=128, generations=2, pixels=32,
        generator=dict(hidden=16, widths=(16,), channels=(8, 4, 2), spots=2),
        joint=dict(hidden=16, widths=(16,), channels=(4, 4, 2), spots=2),
        critic=dict(hidden=(16, 8), channels=(2, 4, 4), code=4),
        divide=128, divide_critic=16, published=dict(epochs=1, batch=32, generator=1e-3, critic=1e-3),
        sums=dict(rows=64, epochs=1, batch=32, rate=1e-3), shape=dict(rows=64, epochs=1, batch=32, rate=1e-3),
        adversarial=dict(epochs=1, batch=32, generator=1e-4, critic=3e-4), weights={"energy": 1.0}),
}
BOTH = ("zn", "zp")
SDI = {"diversity": 0.1}  # the poster's "modified SDI-GAN"
OURS = {"energy": 1.0, "diversity": 1e-2, "intensity": 1e-3, "auxiliary": 1e-3}
PENALTY, MOMENTUM = 0.5, 0.995
COLUMNS = {name: SUMMARY[name] for name in ("WS", "MAE", "RMSE", "AUC")} | {"AUC pixels": lambda s: s["pixels"]}
COLUMNS |= {name: SUMMARY[name] for name in ("width", "lit", "core")}
DIVERSITIES = {f"D({name})": lambda s, name=name: s["diversity"][name] for name in DIVERSITY_SPECIES}


def train_models(args, p, data):
    """One model for each detector and one for both, of either kind, with every seed: name -> `Training`."""
    states = recipe_states(args, p, OURS, PENALTY, MOMENTUM, data=data)
    kinds, trained = {}, {}

    def known(weights):
        return {name: weight for name, weight in weights.items() if data.repeats or name != "diversity"}

    for k in range(args.seeds):
        seed = args.seed + k
        for scope, detectors in (*((name, (name,)) for name in BOTH), ("joint", BOTH)):
            training = data.training.only(*detectors)
            arrays, scaler = training_arrays(training, data.repeats), Scaler.fit(training.particles).get_config()
            for kind in ("published", "ours") if args.rows == "all" else ("published",):
                folder, begun = states / f"{kind} {scope}{k}", 0.0
                if kind == "published":
                    gan, how = ImageGAN.published(detectors, scaler, p["divide"], p["divide_critic"], seed=seed,
                                                  weights=known(SDI)), "adam"
                    settings, generator, network = p["published"], ImageGanGenerator.of(gan), gan.generator
                else:
                    gan, how = ResponseGAN.fit_scales(
                        training, weights=known(p.get("weights", OURS)), penalty=PENALTY, momentum=MOMENTUM, seed=seed,
                        generator=p["joint" if scope == "joint" else "generator"], critic=p["critic"]), None
                    settings, generator, network = p["adversarial"], GanGenerator(gan.average), gan.average
                    stages = score_stages(gan, data.more.only(*detectors), p["sums"], p["shape"])
                    _, begun = timed(partial(warm_start_scores, gan, stages, folder, seed))
                history, seconds = timed(partial(train_adversarially, gan, arrays, folder / "GAN.npz", seed=seed,
                                                 adam={} if how else None, **settings))
                steps = len(history["loss"]) * (len(training) // settings["batch"])
                generator = kinds.setdefault(f"{kind} {scope}", generator)
                trained[f"{kind} {scope}, seed {k}"] = Training(
                    generator, generator.network, network.get_weights(), history, begun + seconds, steps)
    return trained


def sampler(one, detector):
    """A function of (conditions, seed): responses of one of the detectors of a training."""
    def sample(conditions, seed):
        made = one.sample(conditions, seed)
        return made[detector] if isinstance(made, dict) else made
    return sample


def judge_models(args, p, data, trained, detector):
    """Samplers of one detector by name, and their table on the test set."""
    samplers = {}
    for name, one in trained.items():
        (kind, scope), seed = name.split(", ")[0].split(), name.split(", ")[1]
        if scope in (detector, "joint"):
            row = f"{detector} {kind}, {'jointly' if scope == 'joint' else 'separately'}"
            samplers[f"{row}, {seed}"] = sampler(one, detector)
    real, floor = data.test.only(detector), [again.response_of(detector) for again in data.resimulated]
    table = judge(real, floor, samplers, p["generations"], args.seed)
    draws = [real.response, *floor]
    for name, score in table.scores.items():
        made = draws if name == "floor" else [samplers[name](real.particles, noise_seed(name, args.seed, k))
                                              for k in range(len(draws))]
        score["diversity"] = diversity_ratios(draws, made, real.pdg) if floor else {}
        score["pixels"] = pixel_auc(real.response, made[-1], args.seed, p["pixels"])
    table.provenance = data.provenance
    return samplers, table


def verdicts(detector, scores, kinds):
    """Whether one model for both is better than one for each, if there are trainings enough."""
    for kind in kinds:
        values = {how: [COLUMNS["WS"](score) for name, score in scores.items()
                        if name.startswith(f"{detector} {kind}, {how}")] for how in ("separately", "jointly")}
        yield f"{detector} {kind}: {ordering(values)}"


def times(trained, particles, kinds):
    """Lines on how long batches of pairs take, from separate models and from the joint one."""
    for kind in kinds:
        one = {scope: trained[f"{kind} {scope}, seed 0"].generator for scope in (*BOTH, "joint")}
        for batch in (1, 256):
            taken = milliseconds({"separate": [one[name] for name in BOTH], "joint": [one["joint"]]}, particles, batch)
            yield (f"{kind}, time of a batch of {batch} pairs: separate {taken['separate']:.1f} ms, joint "
                   f"{taken['joint']:.1f} ms, ratio {taken['joint'] / taken['separate']:.2f}")


def main():
    parser = command_line(__doc__, PRESETS, "runs/joint_gan", trainings=1, half=True, dry=True)
    parser.add_argument("--rows", choices=("all", "published"), default="all", help="with ours, or the poster's alone")
    args = parser.parse_args()
    p = PRESETS[args.preset]
    if args.dry_run:
        gan = ImageGAN.published(BOTH, {"mean": [0.0] * 9, "scale": [1.0] * 9}, p["divide"], p["divide_critic"],
                                 weights=SDI)
        return printed_cost(gan.passes(), p["train"], p["published"])
    kinds = ("published", "ours") if args.rows == "all" else ("published",)
    data = recipe_data(args, p, "zn+zp", more=p["sums"]["rows"])
    trained = train_models(args, p, data)
    save_models(args, data, {name: trained[f"{kind} joint, seed 0"].ready() for kind, name in
                             zip(kinds, ("published.keras", "joint.keras"), strict=False)})
    lines, told = [], []
    for detector in BOTH:
        samplers, table = judge_models(args, p, data, trained, detector)
        summary = over_seeds(table.scores, COLUMNS | (DIVERSITIES if data.resimulated else {}))
        lines += summary if not lines else summary[1:]
        told += verdicts(detector, table.scores, kinds)
        table.write(args.out / detector)
        some = data.test.only(detector)[:PICTURED]
        shown = {name: sample(some.particles, args.seed) for name, sample in samplers.items() if name.endswith("0")}
        write_pictures(args.out / detector, some, shown, {name: one.history for name, one in trained.items()})
    costs = training_rows(trained, data.test.particles)
    write_text(args.out / "joint.txt", "\n\n".join([text_table(lines), text_table(costs), "\n".join(
        [*times(trained, data.test.particles, kinds), *told])]), data.provenance)
    print(f"tables, pictures and generators are in {args.out}")


if __name__ == "__main__":
    run(main)
