"""VQ-GAN: a VQ-VAE, then the same against a critic, each with a transformer prior over its tokens.

What the study did (Wojnar, "Generative networks for the ZDC"): a VQ-GAN with a codebook of moving averages, adversarial
and perceptual terms after a warm-up and a transformer prior; Wasserstein distance 4.58, where the VQ-VAE had 9.61. The
rows named "published" are these, networks, losses and tuned optimizers of the authors' code: images ln(1 + n), squared
errors, tokens that are told nothing of the particle, a critic of patches (laptop: of the smallest size, and rates ten
times as high for a 27th of the steps; the perceptual term has weight 0 in the authors' code, that of the other row,
of the critic's own features, is ours). Each VQ-VAE and
VQ-GAN start from one warm-up; the VQ-VAE goes on for as many steps as the VQ-GAN has a critic.

    python recipes/vq_gan.py                          # embedded data, neutron calorimeter
    python recipes/vq_gan.py --seeds 3                # three trainings of everything
    python recipes/vq_gan.py --data showers.root      # your own showers, or a folder with the npz pair
    python recipes/vq_gan.py --preset paper --dry-run # what the published sizes and schedule would cost

Interrupted, the same command goes on where it stopped. 34 minutes of processor time a training of everything; WS is
1.51 for both with sums drawn first (floor 1.01), from tokens alone 6.9 +- 2.3 for the VQ-VAE and 6.1 +- 1.8 for the
VQ-GAN, three trainings each.
"""

from itertools import product

from zdckeras.command import run
from zdckeras.data.particles import CONDITION_COUNT
from zdckeras.flow_distill.sums import fit_sums
from zdckeras.metrics.report import text_table
from zdckeras.metrics.trainings import critics_at_end, of_seed, ordering, over_seeds, values_by_row
from zdckeras.recipe import FEW, command_line, judged_with_times, recipe_data, recipe_states, save_models, write_results
from zdckeras.simulation.reference import load
from zdckeras.training.adversarial import train_adversarially
from zdckeras.training.cost import passes_of_loss, printed_cost
from zdckeras.training.loop import fit_arrays
from zdckeras.vq.codebook import count_tokens, perplexity, share_used
from zdckeras.vq.generator import prior_passes, reconstruction, token_generators
from zdckeras.vq.published import ImageVQGAN
from zdckeras.vq.published_prior import ParticleTokenPrior, fit_reader
from zdckeras.vq.vq_gan import PhotonVQGAN
from zdckeras.vq.vq_vae import PhotonVQVAE, encode

ADAM = {  # of the published rows
    "generator": dict(rate=1e-4, beta_1=0.76, beta_2=0.54, epsilon=1.8e-2, nesterov=True,
                      cycle=dict(rise=0.34, start=260.0, end=9500.0)),
    "critic": dict(rate=1.4e-5, beta_1=0.97, beta_2=0.96, epsilon=3.7e-5,
                   cycle=dict(rise=0.43, start=41.0, end=1700.0)),
    "particle tokens": dict(rate=1.7e-3, beta_1=0.71, beta_2=0.88, epsilon=6.7e-9, weight_decay=0.031,
                            cycle=dict(rise=0.1, start=22.0, end=44.0)),
    "prior": dict(rate=3.6e-3, beta_1=0.80, beta_2=0.65, epsilon=1.7e-9, nesterov=True, weight_decay=0.33,
                  cycle=dict(rise=0.21, start=390.0, end=600.0))}
PRESETS = {
    "laptop": dict(
        train=50_000, validation=2_000, test=10_000, generations=2, pairs=1_000, size="0.25M", critic={},
        published=dict(hidden=60, depth=2), width=32, faster=10.0,
        warm_start=dict(epochs=3, batch=64, rate=3e-3),
        adversarial=dict(epochs=1, batch=64, generator=3e-4, critic=3e-4),
        prior=dict(epochs=2, batch=128, rate=2e-3, width=96, heads=4, depth=3),
        sums=dict(epochs=12, batch=512, rate=2e-3)),
    "paper": dict(
        train=214_746, validation=40_000, test=60_000, generations=5, pairs=20_000, size="4M",
        critic=dict(hidden=(512, 256), channels=(64, 128, 256), code=128), published={}, width=256, faster=1.0,
        warm_start=dict(epochs=12, batch=256, rate=1e-3),  # the study's 10,000 steps
        adversarial=dict(epochs=88, batch=256, generator=1e-4, critic=1e-4),
        prior=dict(epochs=100, batch=256, rate=1e-3, width=256, heads=4, depth=5),
        sums=dict(epochs=40, batch=512, rate=1e-3)),
    "smoke": dict(
        train=128, validation=64, test=128, generations=2, pairs=32, batches=(4,), size="0.25M",
        critic=dict(hidden=(16, 8), channels=(2, 4, 4), code=4), rows=("",),
        published=dict(hidden=8, heads=2, depth=1), width=8, faster=1.0,
        warm_start=dict(epochs=1, batch=64, rate=1e-3),
        adversarial=dict(epochs=1, batch=64, generator=1e-4, critic=3e-4),
        prior=dict(epochs=1, batch=64, rate=1e-3, width=8, heads=2, depth=1),
        sums=dict(epochs=1, batch=64, rate=1e-3, steps=1, hidden=(8,), embedding=(8,))),
}


def dry_run(args, p):
    """What the trainings of the published VQ-GAN, its warm start and its prior would cost."""
    some = load(args.detector, "train", FEW)
    model = PhotonVQVAE.published(some, width=p["width"], averaged=True, **p["published"])
    rows = dict(conditions=(CONDITION_COUNT,), responses=model.detector.shape)
    printed_cost(passes_of_loss("published warm start", model, **rows), p["train"], p["warm_start"])
    passes = ImageVQGAN.of(model, some, **p["published"]).passes()
    printed_cost({f"published {name}": one for name, one in passes.items()}, p["train"], p["adversarial"])
    printed_cost(prior_passes(model, some, p["prior"], ParticleTokenPrior), p["train"], p["prior"])


def train_pair(p, data, seed, folder, fresh, against, adam=None):
    """From one warm start one model goes on as it is, and the other meets a critic: models and histories by name."""
    warm, plain, adversarial = (fresh() for _ in range(3))
    one = dict(seed=seed, adam=adam and adam["generator"])
    histories = {"warm start": fit_arrays(warm, data.arrays, folder / "warm start.npz", **one, **p["warm_start"])}
    for model in (plain, adversarial):
        model.set_weights(warm.get_weights())
    epochs, batch, rate = (p["adversarial"][key] for key in ("epochs", "batch", "generator"))
    histories["VQ-VAE"] = fit_arrays(plain, data.arrays, folder / "VQ-VAE.npz", epochs, batch, rate, **one)
    adversarial.scatter.fit(encode(adversarial, data.validation)[1], data.validation.response)
    histories["VQ-GAN"] = train_adversarially(against(adversarial), data.arrays, folder / "VQ-GAN.npz", seed=seed,
                                              adam=adam, **p["adversarial"])
    return {"VQ-VAE": plain, "VQ-GAN": adversarial}, histories


def train_models(p, data, seed, states):
    """The published pair, then ours, trained alike: models and histories by name."""
    training, found, histories = data.training, {}, {}
    pairs = {"published ": (
        lambda: PhotonVQVAE.published(training, width=p["width"], averaged=True, seed=seed, **p["published"]),
        lambda model: ImageVQGAN.of(model, training, seed=seed, **p["published"]),
        {phase: ADAM[phase] | dict(rate=p["faster"] * ADAM[phase]["rate"]) for phase in ("critic", "generator")})}
    pairs |= {"": (lambda: PhotonVQVAE.of_size(training, p["size"], seed=seed),
                   lambda model: PhotonVQGAN.fit_scales(model, training, critic=p["critic"], seed=seed))}
    for row in p.get("rows", pairs):
        models, learnt = train_pair(p, data, seed, states / row.strip(), *pairs[row])
        found |= {f"{row}{name}": model for name, model in models.items()}
        histories |= {f"{row}{name}": history for name, history in learnt.items()}
    return found, histories


def train_priors(p, data, seed, states, models):
    """A prior for the tokens of each model, with and without channel sums: generators and histories by name."""
    sums, generators = fit_sums(data.training, states / "sums.npz", seed=seed, **p["sums"]), {}
    reader, histories = fit_reader(data.training, states, p["prior"], ADAM["particle tokens"], seed)
    for name, model in models.items():
        theirs = name.startswith("published")
        how = dict(kind=ParticleTokenPrior, reader=reader, adam=ADAM["prior"]) if theirs else {}
        made, losses = token_generators(model, data.training, data.validation, states / name, p["prior"] | how,
                                        {"prior": None} | ({} if theirs else {"sums and prior": sums}), seed=seed)
        generators |= {f"{name}, {kind}": by_heat[1.0] for kind, by_heat in made.items()}
        histories |= {f"{name}, {kind}": history for kind, history in losses.items()}
    return generators, histories


def judge_models(args, p, data, models, generators, histories):
    """The table on the test set: what is left of responses after tokens, and what is generated; and its summary."""
    samplers, codes = {}, {}
    for name, model in models.items():
        tokens, light = encode(model, data.test)
        samplers[name.replace(", seed", ", reconstructed, seed")] = reconstruction(model, light)
        codes[name] = count_tokens(tokens, model.codebook.codes)
    table, _, text = judged_with_times(args, data, samplers | generators, p)
    used = over_seeds(codes, {"share of codes used": share_used, "perplexity": lambda found: float(perplexity(found))})
    critics = text_table(critics_at_end(histories))
    return table, "\n\n".join([text_table(used), text, critics, "\n".join(verdicts(table.scores))])


def verdicts(scores):
    """What the table says of the study's claim, that a critic makes the distance smaller."""
    found = values_by_row(scores)
    for row, end in product(("published ", ""), ("reconstructed", "prior")):
        if (plain := f"{row}VQ-VAE, {end}") in found:
            yield f"{row}{end}: {ordering({name: found[name] for name in (plain, f'{row}VQ-GAN, {end}')})}"


def main():
    args = command_line(__doc__, PRESETS, "runs/vq_gan", ("zn", "zp"), trainings=1, dry=True).parse_args()
    p = PRESETS[args.preset]
    if args.dry_run:
        return dry_run(args, p)
    data = recipe_data(args, p, draws=range(1, p["generations"]))
    states = recipe_states(args, p, ADAM, data=data)
    models, generators, histories = {}, {}, {}
    for k in range(args.seeds):
        found, learnt = train_models(p, data, args.seed + k, states / f"seed{k}")
        made, losses = train_priors(p, data, args.seed + k, states / f"seed{k}", found)
        models, generators = models | of_seed(found, k), generators | of_seed(made, k)
        histories |= of_seed(learnt | losses, k)
    save_models(args, data, {"generator.keras": generators["VQ-GAN, sums and prior, seed 0"]})
    table, text = judge_models(args, p, data, models, generators, histories)
    shown = {name: one.sample for name, one in generators.items() if name.endswith("sums and prior, seed 0")}
    write_results(args, "vq_gan.txt", text, table, data.test, shown, histories)


if __name__ == "__main__":
    run(main)
