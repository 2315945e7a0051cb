"""Vector quantisation: VQ-VAEs of several sizes, a transformer prior over their tokens, and its temperature.

What the study did (Wojnar, "Generative networks for the ZDC"): VQ-VAEs of five sizes with 36 tokens of 256 codes,
judged by how well they reconstruct; then a transformer prior of the tokens, sampled at several temperatures. Here
besides: channel sums drawn first by a small flow, told to the prior and imposed on the photons.

    python recipes/vq_vae.py                          # embedded data, neutron calorimeter
    python recipes/vq_vae.py --sizes 0.25M 13M 52M    # other sizes, "0.25M" to "52M"
    python recipes/vq_vae.py --data showers.root      # your own showers, or a folder with the npz pair

Interrupted, the same command goes on where it stopped.
"""

from zdckeras.data.atomic import atomic_path
from zdckeras.flow_distill.sums import fit_sums
from zdckeras.generators import milliseconds
from zdckeras.metrics.report import judge, over_seeds, text_table
from zdckeras.plots import write_pictures
from zdckeras.recipe import command_line, showers_for
from zdckeras.training.batches import Batches
from zdckeras.training.loop import fit_adam, states_folder
from zdckeras.vq.codebook import count_tokens, perplexity, share_used
from zdckeras.vq.training import reconstruction, token_generators
from zdckeras.vq.vq_vae import MODEL_SIZES, PhotonVQVAE, encode

PRESETS = {
    "laptop": dict(
        train=50_000, validation=2_000, test=10_000, generations=2, sizes=("0.25M", "1M", "4M"),
        study=dict(rows=10_000, epochs=2, batch=64, rate=2e-3),
        best=dict(size="0.25M", rows=50_000, epochs=3, batch=64, rate=3e-3),
        prior=dict(epochs=2, batch=128, rate=2e-3, width=96, heads=4, depth=3),
        sums=dict(epochs=12, batch=512, rate=2e-3), temperatures=(1.0, 1.2, 1.4)),
    "paper": dict(
        train=300_000, validation=40_000, test=60_000, generations=5, sizes=tuple(MODEL_SIZES),
        study=dict(rows=300_000, epochs=20, batch=256, rate=1e-3),
        best=dict(size="1M", rows=300_000, epochs=100, batch=256, rate=1e-3),
        prior=dict(epochs=100, batch=256, rate=1e-3, width=256, heads=4, depth=5),
        sums=dict(epochs=40, batch=512, rate=1e-3), temperatures=(1.0, 1.2, 1.4)),
    "smoke": dict(
        train=256, validation=64, test=128, generations=2, sizes=("0.25M",),
        study=dict(rows=256, epochs=1, batch=64, rate=1e-3),
        best=dict(size="0.25M", rows=256, epochs=1, batch=64, rate=1e-3),
        prior=dict(epochs=1, batch=64, rate=1e-3, width=8, heads=2, depth=1),
        sums=dict(epochs=1, batch=64, rate=1e-3), temperatures=(1.0,)),
}


def main():
    parser = command_line(__doc__, PRESETS, "runs/vq_vae", ("zn", "zp"))
    parser.add_argument("--sizes", nargs="+", choices=MODEL_SIZES, help="of the study of sizes")
    args = parser.parse_args()
    p, out = PRESETS[args.preset], args.out
    sizes = args.sizes or p["sizes"]
    states = states_folder(out, p, args.detector, args.data, args.seed)

    # data
    training, validation, test, resimulated = showers_for(args.detector, args.data, p, range(1, p["generations"]),
                                                      args.seed)

    # train every size alike, then one for longer, its priors and its channel sums
    def fit(size, name, rows, epochs, batch, rate):
        model, some = PhotonVQVAE.of_size(training, size, seed=args.seed), training[:rows]
        batches = Batches({"conditions": some.particles, "responses": some.response}, batch, args.seed)
        return model, fit_adam(model, batches, states / f"{name}.npz", epochs, rate)

    models, histories = {}, {}
    for size in sizes:
        models[size], histories[size] = fit(size, f"VQ-VAE {size}", **p["study"])
    best = dict(p["best"])
    model, histories["longer"] = fit(best.pop("size"), "VQ-VAE, longer", **best)
    models[f"{p['best']['size']}, longer"] = model
    sums = fit_sums(training, states / "sums.npz", seed=args.seed, **p["sums"])
    generators = {}
    for name, first in (("prior", None), ("sums and prior", sums)):
        made, histories[name] = token_generators(model, training, validation, states, p["prior"], first,
                                                 p["temperatures"], args.seed)
        generators |= {f"{name}, T = {t:g}": generator for t, generator in made.items()}

    # judge on the test set: what is left of responses after tokens, and what is generated
    rows, codes = {}, [["VQ-VAE", "weights", "MFLOP there and back", "codes used", "perplexity"]]
    for name, trained in models.items():
        light = encode(trained, validation)[1]
        trained.scatter.fit(light, validation.response)
        rows[f"{name}, reconstructed"] = reconstruction(trained, test)
        counts = count_tokens(encode(trained, test)[0], trained.codebook.codes)
        codes.append([name, f"{trained.count_params():,}", f"{2e-6 * trained.operations():.1f}",
                      f"{share_used(counts):.0%}", f"{float(perplexity(counts)):.0f}"])
    rows |= {name: generator.sample for name, generator in generators.items()}
    table = judge(test, [again.response for again in resimulated], rows, p["generations"], args.seed)
    summary = over_seeds(table.scores)
    shipped = generators["sums and prior, T = 1"]
    times = [f"time of a response, tokens, light and photons, batch {batch}: "
             f"{milliseconds({'g': [shipped]}, test.particles, batch)['g'] / batch:.3f} ms" for batch in (1, 256)]
    floor, ws = (table.scores[name]["metrics"]["all"]["WS"][0] for name in ("floor", "sums and prior, T = 1"))
    verdict = [*times, f"sums and prior, T = 1: WS is {ws / floor:.2f} floors"]
    text = "\n".join([text_table(codes), "", text_table(summary), "", *verdict, ""])
    print("\n" + text)

    # report, pictures, model
    table.write(out)
    with atomic_path(out / "study.txt") as path:
        path.write_text(text, encoding="utf-8")
    some = test[:2000]
    shown = {"reconstructed": reconstruction(model, some)(some.particles, args.seed)}
    shown |= {name: g.sample(some.particles, args.seed) for name, g in generators.items() if name.endswith("T = 1")}
    write_pictures(out, some, shown, histories)
    shipped.save(out / "generator.keras")
    print(f"report, pictures and the generator of the last T = 1 are in {out}")


if __name__ == "__main__":
    main()
