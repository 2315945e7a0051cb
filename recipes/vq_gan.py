"""VQ-GAN: a VQ-VAE, then the same against a critic, each with a transformer prior over its tokens.

What the study did (Wojnar, "Generative networks for the ZDC"): a VQ-GAN with a codebook of moving averages, adversarial
and perceptual terms after a warm-up and a transformer prior; Wasserstein distance 4.58, where the VQ-VAE had 9.61. Here
both rows start from one warm-up; the VQ-VAE goes on for as many steps as the critic plays.

    python recipes/vq_gan.py                          # embedded data, neutron calorimeter
    python recipes/vq_gan.py --data showers.root      # your own showers, or a folder with the npz pair

Interrupted, the same command goes on where it stopped.
"""

from zdckeras.data.atomic import atomic_path
from zdckeras.flow_distill.sums import fit_sums
from zdckeras.metrics.report import judge, over_seeds, text_table
from zdckeras.plots import write_pictures
from zdckeras.recipe import command_line, showers_for
from zdckeras.training.adversarial import train_adversarially
from zdckeras.training.batches import Batches
from zdckeras.training.loop import fit_adam, states_folder
from zdckeras.vq.codebook import count_tokens, perplexity, share_used
from zdckeras.vq.training import reconstruction, token_generators
from zdckeras.vq.vq_gan import PhotonVQGAN
from zdckeras.vq.vq_vae import PhotonVQVAE, encode

PRESETS = {
    "laptop": dict(
        train=50_000, validation=2_000, test=10_000, generations=2, size="0.25M", critic={},
        warm=dict(epochs=3, batch=64, rate=3e-3), play=dict(epochs=1, batch=64, generator=3e-4, critic=3e-4),
        prior=dict(epochs=2, batch=128, rate=2e-3, width=96, heads=4, depth=3),
        sums=dict(epochs=12, batch=512, rate=2e-3)),
    "paper": dict(
        train=300_000, validation=40_000, test=60_000, generations=5, size="4M",
        critic=dict(hidden=(512, 256), channels=(64, 128, 256), code=128),
        warm=dict(epochs=40, batch=256, rate=1e-3), play=dict(epochs=60, batch=256, generator=1e-4, critic=1e-4),
        prior=dict(epochs=100, batch=256, rate=1e-3, width=256, heads=4, depth=5),
        sums=dict(epochs=40, batch=512, rate=1e-3)),
    "smoke": dict(
        train=256, validation=64, test=128, generations=2, size="0.25M",
        critic=dict(hidden=(16, 8), channels=(2, 4, 4), code=4),
        warm=dict(epochs=1, batch=64, rate=1e-3), play=dict(epochs=1, batch=64, generator=1e-4, critic=3e-4),
        prior=dict(epochs=1, batch=64, rate=1e-3, width=8, heads=2, depth=1),
        sums=dict(epochs=1, batch=64, rate=1e-3)),
}


def main():
    parser = command_line(__doc__, PRESETS, "runs/vq_gan", ("zn", "zp"))
    args = parser.parse_args()
    p, out = PRESETS[args.preset], args.out
    states = states_folder(out, p, args.detector, args.data, args.seed)

    # data
    training, validation, test, resimulated = showers_for(args.detector, args.data, p, range(1, p["generations"]),
                                                      args.seed)
    arrays = {"conditions": training.particles, "responses": training.response}

    # train: one warm-up, from which one model goes on as it is and the other meets a critic
    def batches(rows):
        return Batches(arrays, rows, args.seed)

    warm, plain, adversarial = (PhotonVQVAE.of_size(training, p["size"], seed=args.seed) for _ in range(3))
    histories = {"warm-up": fit_adam(warm, batches(p["warm"]["batch"]), states / "warm-up.npz", p["warm"]["epochs"],
                                     p["warm"]["rate"])}
    for model in (plain, adversarial):
        model.set_weights(warm.get_weights())
    histories["VQ-VAE"] = fit_adam(plain, batches(p["play"]["batch"]), states / "VQ-VAE.npz", p["play"]["epochs"],
                                   p["play"]["generator"])
    adversarial.scatter.fit(encode(adversarial, validation)[1], validation.response)
    gan = PhotonVQGAN.fit_scales(adversarial, training, critic=p["critic"], seed=args.seed)
    histories["VQ-GAN"] = train_adversarially(gan, arrays, states / "VQ-GAN.npz", seed=args.seed, **p["play"])
    sums = fit_sums(training, states / "sums.npz", seed=args.seed, **p["sums"])

    # a prior for the tokens of each, with and without channel sums
    rows, codes, generators = {}, [["", "codes used", "perplexity"]], {}
    for name, model in {"VQ-VAE": plain, "VQ-GAN": adversarial}.items():
        for kind, first in (("prior", None), ("sums and prior", sums)):
            made, histories[f"{name}, {kind}"] = token_generators(model, training, validation, states / name,
                                                                  p["prior"], first, seed=args.seed)
            generators[f"{name}, {kind}"] = made[1.0]
        rows[f"{name}, reconstructed"] = reconstruction(model, test)
        counts = count_tokens(encode(model, test)[0], model.codebook.codes)
        codes.append([name, f"{share_used(counts):.0%}", f"{float(perplexity(counts)):.0f}"])
    rows |= {name: generator.sample for name, generator in generators.items()}

    # judge on the test set
    table = judge(test, [again.response for again in resimulated], rows, p["generations"], args.seed)
    text = "\n".join([text_table(codes), "", text_table(over_seeds(table.scores)), ""])
    print("\n" + text)

    # report, pictures, model
    table.write(out)
    with atomic_path(out / "vq_gan.txt") as path:
        path.write_text(text, encoding="utf-8")
    some = test[:2000]
    write_pictures(out, some, {name: g.sample(some.particles, args.seed) for name, g in generators.items()
                               if "sums" in name}, histories)
    generators["VQ-GAN, sums and prior"].save(out / "generator.keras")
    print(f"report, pictures and the generator of the VQ-GAN are in {out}")


if __name__ == "__main__":
    main()
