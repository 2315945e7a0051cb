"""Vector quantisation: VQ-VAEs of several sizes, a transformer prior over their tokens, and its temperature.

What the study did (Wojnar, "Generative networks for the ZDC"): VQ-VAEs of five sizes with 36 tokens of 256 codes,
judged by how well they reconstruct; then a transformer prior of the tokens, sampled at several temperatures. The rows
named "published" are these, networks, losses and tuned optimizers of the authors' code: images ln(1 + n), squared
errors, tokens that are told nothing of the particle, and a prior that is told two tokens of it (laptop: of the smallest
size, with the optimizers tuned for it). Ours answer with whole photons drawn from light, are told of the particle, and,
besides, channel sums drawn first by a small flow are told to the prior and imposed on the photons.

    python recipes/vq_vae.py                          # embedded data, neutron calorimeter
    python recipes/vq_vae.py --sizes 0.25M 13M 52M    # other sizes, "0.25M" to "52M"
    python recipes/vq_vae.py --seeds 3                # three trainings of everything
    python recipes/vq_vae.py --data showers.root      # your own showers, or a folder with the npz pair
    python recipes/vq_vae.py --preset paper --dry-run # what the published sizes and schedule would cost

Interrupted, the same command goes on where it stopped. 22 minutes of processor time for its trainings; WS of ours, of
three trainings, is 7.5 +- 2.3 from tokens alone and 1.49 +- 0.03 with the sums drawn first (floor 1.01).
"""

from zdckeras.command import run
from zdckeras.data.particles import CONDITION_COUNT
from zdckeras.flow_distill.sums import fit_sums
from zdckeras.metrics.report import in_floors, text_table
from zdckeras.metrics.trainings import by_row, of_seed, ordering, over_seeds, values_by_row
from zdckeras.recipe import (
    FEW,
    PICTURED,
    command_line,
    judged_with_times,
    recipe_data,
    recipe_states,
    save_models,
    write_results,
)
from zdckeras.simulation.reference import load
from zdckeras.training.cost import passes_of_loss, printed_cost
from zdckeras.training.loop import fit_arrays
from zdckeras.vq.codebook import count_tokens, perplexity, share_used
from zdckeras.vq.generator import prior_passes, reconstruction, token_generators
from zdckeras.vq.published_prior import ParticleTokenPrior, fit_reader
from zdckeras.vq.vq_vae import MODEL_SIZES, PhotonVQVAE, encode

ADAM = {  # of the published rows, tuned for a VQ-VAE of 0.25M, for one of 1M, and for the priors of 0.25M and 4M
    "0.25M": dict(rate=7.4e-3, beta_1=0.79, beta_2=0.76, epsilon=2.0e-4, cycle=dict(rise=0.23, start=45.0, end=2100.0)),
    "1M": dict(rate=1.7e-3, beta_1=0.71, beta_2=0.88, epsilon=6.7e-9, weight_decay=0.031,
               cycle=dict(rise=0.1, start=22.0, end=44.0)),
    "prior, 0.25M": dict(rate=7.6e-3, beta_1=0.97, beta_2=0.93, epsilon=3.9e-7, nesterov=True,
                         cycle=dict(rise=0.16, start=61.0, end=5200.0)),
    "prior, 4M": dict(rate=3.6e-3, beta_1=0.80, beta_2=0.65, epsilon=1.7e-9, nesterov=True, weight_decay=0.33,
                      cycle=dict(rise=0.21, start=390.0, end=600.0))}
PRESETS = {
    "laptop": dict(
        train=50_000, validation=2_000, test=10_000, generations=2, pairs=1_000, sizes=("0.25M", "1M", "4M"),
        study=dict(rows=10_000, epochs=2, batch=64, rate=2e-3),
        best=dict(size="0.25M", rows=50_000, epochs=3, batch=64, rate=3e-3),
        published=dict(hidden=60, depth=2, width=32, projection=8), adam=("0.25M", "prior, 0.25M"),
        prior=dict(epochs=2, batch=128, rate=2e-3, width=96, heads=4, depth=3),
        sums=dict(epochs=12, batch=512, rate=2e-3), temperatures=(1.0, 1.2, 1.4)),
    "paper": dict(
        train=214_746, validation=40_000, test=60_000, generations=5, pairs=20_000, sizes=tuple(MODEL_SIZES),
        study=dict(rows=214_746, epochs=20, batch=256, rate=1e-3),
        best=dict(size="1M", rows=214_746, epochs=100, batch=256, rate=1e-3), published={}, adam=("1M", "prior, 4M"),
        prior=dict(epochs=100, batch=256, rate=1e-3, width=256, heads=4, depth=5),
        sums=dict(epochs=40, batch=512, rate=1e-3), temperatures=(1.0, 1.2, 1.4)),
    "smoke": dict(
        train=128, validation=64, test=128, generations=2, pairs=32, batches=(4,), sizes=("0.25M",),
        study=dict(rows=128, epochs=1, batch=64, rate=1e-3),
        best=dict(size="0.25M", rows=128, epochs=1, batch=64, rate=1e-3),
        published=dict(hidden=8, heads=2, depth=1, width=8, projection=4), adam=("1M", "prior, 4M"),
        prior=dict(epochs=1, batch=64, rate=1e-3, width=8, heads=2, depth=1),
        sums=dict(epochs=1, batch=64, rate=1e-3, steps=1, hidden=(8,), embedding=(8,)), temperatures=(1.0,)),
}


def dry_run(args, p):
    """What the trainings of the published VQ-VAE and of its prior would cost."""
    some, best = load(args.detector, "train", FEW), p["best"]
    model = PhotonVQVAE.published(some, **p["published"])
    rows = dict(conditions=(CONDITION_COUNT,), responses=model.detector.shape)
    printed_cost(passes_of_loss("published VQ-VAE", model, **rows), best["rows"], best)
    printed_cost(prior_passes(model, some, p["prior"], ParticleTokenPrior), p["train"], p["prior"])


def train_models(p, data, seed, sizes, states):
    """The published one, those of the sizes alike, then one for longer: models and histories by name.

    The first and the last model are trained for as long.
    """
    def fit(name, model, rows, **settings):
        models[name] = model
        some = {key: values[:rows] for key, values in data.arrays.items()}
        path = states / f"VQ-VAE {name}.npz"
        histories[name] = fit_arrays(models[name], some, path, seed=seed, **settings)

    def of_size(size):
        return PhotonVQVAE.of_size(data.training, size, seed=seed)

    models, histories, (size, longer) = {}, {}, (p["best"]["size"], {k: v for k, v in p["best"].items() if k != "size"})
    fit("published", PhotonVQVAE.published(data.training, seed=seed, **p["published"]), adam=ADAM[p["adam"][0]],
        **longer)
    for name in sizes:
        fit(name, of_size(name), **p["study"])
    fit(f"{size}, longer", of_size(size), **longer)
    return models, histories


def train_priors(p, data, seed, states, published, model):
    """Priors of the tokens of two models, sampled at every temperature: generators and histories by name."""
    sums = fit_sums(data.training, states / "sums.npz", seed=seed, **p["sums"])
    made, losses = token_generators(model, data.training, data.validation, states, p["prior"],
                                    {"prior": None, "sums and prior": sums}, p["temperatures"], seed)
    first, second = (ADAM[name] for name in p["adam"])
    reader, more = fit_reader(data.training, states, p["prior"], first, seed)
    theirs, found = token_generators(published, data.training, data.validation, states, p["prior"] | dict(
        kind=ParticleTokenPrior, reader=reader, adam=second), {"published prior": None}, p["temperatures"], seed)
    return {f"{name}, T = {t:g}": generator
            for name, by_heat in (theirs | made).items() for t, generator in by_heat.items()}, more | found | losses


def reconstructions(data, models):
    """Functions of (conditions, seed) that draw from the light of the test's own tokens, and a table of the codes."""
    samplers, codes = {}, {}
    for name, model in models.items():
        model.scatter.fit(encode(model, data.validation)[1], data.validation.response)
        tokens, light = encode(model, data.test)
        samplers[name.replace(", seed", ", reconstructed, seed")] = reconstruction(model, light)
        codes[name] = model, count_tokens(tokens, model.codebook.codes)
    return samplers, over_seeds(codes, {
        "weights": lambda c: c[0].count_params(), "MFLOP there and back": lambda c: f"{2e-6 * c[0].operations():.1f}",
        "share of codes used": lambda c: share_used(c[1]), "perplexity": lambda c: float(perplexity(c[1]))})


def judge_models(args, p, data, samplers, codes):
    """The table on the test set: what is left of responses after tokens, and what is generated; and its summary."""
    table, _, text = judged_with_times(args, data, samplers, p)
    return table, "\n".join([text_table(codes), "", text, "", *verdicts(table.scores, p["temperatures"])])


def verdicts(scores, temperatures):
    """What the table says of the study's claim, that WS is least at the highest temperature, and of the floor."""
    found = values_by_row(scores)
    for prior in ("published prior", "prior"):
        if len(temperatures) > 1:
            yield f"{prior}: {ordering({row: found[row] for t in temperatures if (row := f'{prior}, T = {t:g}')})}"
    best = found["sums and prior, T = 1"]
    yield f"sums and prior, T = 1: WS is {in_floors(sum(best) / len(best), found.get('floor', [None])[0])}"


def main():
    parser = command_line(__doc__, PRESETS, "runs/vq_vae", ("zn", "zp"), trainings=1, dry=True)
    parser.add_argument("--sizes", nargs="+", choices=MODEL_SIZES, help="of the study of sizes")
    args = parser.parse_args()
    p = PRESETS[args.preset]
    if args.dry_run:
        return dry_run(args, p)
    data = recipe_data(args, p, draws=range(1, p["generations"]))
    states = recipe_states(args, p, ADAM, data=data)
    models, generators, histories = {}, {}, {}
    for k in range(args.seeds):
        found, learnt = train_models(p, data, args.seed + k, args.sizes or p["sizes"], states / f"seed{k}")
        published, *_, model = found.values()
        made, losses = train_priors(p, data, args.seed + k, states / f"seed{k}", published, model)
        models, generators = models | of_seed(found, k), generators | of_seed(made, k)
        histories |= of_seed(learnt | losses, k)
    save_models(args, data, {"generator.keras": generators["sums and prior, T = 1, seed 0"]})
    samplers, codes = reconstructions(data, models)
    table, text = judge_models(args, p, data, samplers | generators, codes)
    longest = [trainings[0] for trainings in by_row(models).values()][-1]
    shown = {"reconstructed": reconstruction(longest, encode(longest, data.test[:PICTURED])[1])}
    shown |= {name: generator.sample for name, generator in generators.items() if name.endswith("T = 1, seed 0")}
    write_results(args, "study.txt", text, table, data.test, shown, histories)


if __name__ == "__main__":
    run(main)
