"""Flow matching: responses from noise along straight paths, on the full grid as published, in patches, and in codes.

Three networks learn the velocity of the path from noise to data. The published one (arXiv:2507.18811) is a U-Net of
77,372 weights on ln(1 + n), uniform times, Euler in 11 steps, Adam as its authors' code (m-wojnar/faster_zdc) has it
for each calorimeter: nothing is added to the photons, and what is below 0 at the end is 0. On a CPU it costs tens of
milliseconds a sample to train, so that the laptop preset shows it undertrained. Differences: see `UNet`; times reach 1
where the study's end at 0.99, all is float32 where the study's convolutions are bfloat16, and photons are rounded. The
second does the same in patches that are told where the impact is. The third, ours, moves 16 numbers: the latent codes
of single arrivals (`zdckeras.modular`), whose decoder and transport stay what they are; the number of steps is a dial
between quality and time.

    python recipes/flow_matching.py                          # embedded data, neutron calorimeter
    python recipes/flow_matching.py --detector zp --rows   # the latent rows alone
    python recipes/flow_matching.py --rows --seeds 3 --out runs/codes  # three trainings of the prior over codes
    python recipes/flow_matching.py --preset paper --dry-run # what the trainings of whole responses would cost
    python recipes/flow_matching.py --data showers.root      # your own showers, or a folder with the npz pair

Interrupted, the same command goes on where it stopped.
"""

from functools import partial

from zdckeras.command import run
from zdckeras.diffusion.images import ImageDiffusion, ImageGenerator, fit_images
from zdckeras.diffusion.judging import judge_dial
from zdckeras.diffusion.latent import code_posteriors, fit_prior
from zdckeras.judging import answer
from zdckeras.modular.arrivals import single_arrivals
from zdckeras.modular.generator import ModularGenerator
from zdckeras.modular.training import fit_vae
from zdckeras.modular.transport import Transport
from zdckeras.plots import save_figure
from zdckeras.recipe import FEW, command_line, preset_for, recipe_data, recipe_states, save_models, write_results
from zdckeras.simulation.reference import load
from zdckeras.training.cost import printed_cost

SHIPPED = "latent, heun 4, seed 0"
IMAGES = {"published": "U-Net as published", "patches": "patches"}
ADAM = {  # of the published row
    "zn": dict(rate=4.4e-4, beta_1=0.7, beta_2=0.88, epsilon=1e-8),
    "zp": dict(rate=2.7e-3, beta_1=0.94, beta_2=0.91, epsilon=1e-8, cycle=dict(rise=0.2, start=25.0, end=1000.0))}
DIAL = (("euler", 1), ("euler", 2), ("euler", 4), ("euler", 8), ("heun", 2), ("heun", 4))
PRESETS = {
    "laptop": dict(
        train=40_000, test=5_000, generations=2, few=1_000, arrivals=4_000, pairs=2_000, dial=DIAL,
        batches=(1, 256), levels=3,
        published=dict(rows=8_000, network="unet", fit=dict(epochs=2, batch=64)),
        patches=dict(rows=40_000, network="patches", fit=dict(epochs=2, batch=128, rate=1e-3)),
        vae=dict(rows=60_000, epochs=45, batch=256, rate=1e-3, decoder=dict(rank=128)),
        codes=150_000, prior=dict(epochs=15, batch=512, rate=2e-3)),
    "paper": dict(
        train=214_746, test=60_000, generations=5, few=60_000, arrivals=20_000, pairs=20_000, dial=DIAL,
        batches=(1, 256), levels=3, studies={"zp": dict(train=240_959)},
        published=dict(network="unet", fit=dict(epochs=50, batch=256)),
        patches=dict(network="patches", sizes=dict(hidden=192, depth=6),
                     fit=dict(epochs=100, batch=256, rate=1e-3)),
        vae=dict(rows=300_000, epochs=40, batch=256, rate=1e-3, latent=32,
                 decoder=dict(hidden=(512, 768), known=384, rim=96)),
        codes=2_000_000, prior=dict(epochs=40, batch=1024, rate=2e-3, hidden=384)),
    "smoke": dict(
        train=128, test=96, generations=2, few=64, arrivals=64, pairs=32, dial=(("heun", 4),), batches=(4,), levels=1,
        published=dict(rows=64, network="unet", sizes=dict(channels=2, multipliers=(1, 2), blocks=1, heads=1),
                       fit=dict(epochs=1, batch=32)),
        patches=dict(rows=64, network="patches", sizes=dict(patch=11, hidden=8, depth=1, across=4),
                     fit=dict(epochs=1, batch=32, rate=1e-3)),
        vae=dict(rows=128, epochs=1, batch=64, rate=1e-3, latent=4, encoder=dict(hidden=(16, 8)),
                 decoder=dict(hidden=(8, 8), known=8, rim=4), prior=dict(steps=1, hidden=(8,), context=8)),
        codes=128, prior=dict(epochs=1, batch=64, rate=1e-3, hidden=16, depth=2, context=8)),
}


def image_models(args, p, training):
    """Of whole responses, in the rows asked for."""
    for row in args.rows:
        yield row, ImageDiffusion.fit_scales(training, p[row]["network"], p[row].get("sizes"), args.seed,
                                             published=row == "published", sampler="euler", steps=11)


def dry_run(args, p):
    """What the trainings of these would cost."""
    for row, model in image_models(args, p, load(args.detector, "train", FEW)):
        printed_cost({row: model.passes()["network"]}, p[row].get("rows", p["train"]), p[row]["fit"])


def train_images(args, p, data, reach):
    """Generators of whole responses, in the rows asked for, and histories."""
    generators, histories = {}, {}
    for row, model in image_models(args, p, data.training):
        settings, name = p[row], f"{IMAGES[row]}, euler 11"
        some = {key: values[: settings.get("rows")] for key, values in data.arrays.items()}
        adam = ADAM[args.detector] if row == "published" else None
        path = recipe_states(args, p["train"], settings, *([adam] if adam else []), data=data) / f"{row}.npz"
        histories[IMAGES[row]] = fit_images(model, some, path, seed=args.seed, adam=adam, **settings["fit"])
        generators[name] = ImageGenerator(model, *reach)
    return generators, histories


def train_latent(args, p, data, own, reach):
    """Generators over codes, one for each position of the dial and seed, one with the flow prior; histories."""
    name, histories = args.detector, {}
    path = recipe_states(args, p["vae"], data=data) / "autoencoder.npz"
    vae, histories["autoencoder"] = fit_vae(name, path, seed=args.seed, own=own, **p["vae"])
    codes, priors = code_posteriors(vae, p["codes"], args.seed, own), {}
    for k in range(args.seeds):
        stages = p["vae"], p["codes"], p["prior"], *([f"seed {k}"] if k else [])
        path = recipe_states(args, *stages, data=data) / "latent.npz"
        prior, histories[f"latent, seed {k}"] = fit_prior(vae, codes, path, seed=args.seed + k, **p["prior"])
        priors |= {f"latent, {sampler} {steps}, seed {k}": prior.sampled_by(sampler, steps)
                   for sampler, steps in p["dial"]}
    return {label: ModularGenerator(Transport(name, p["levels"]), prior, vae.decoder, *reach)
            for label, prior in {**priors, "latent, MAF": vae.prior}.items()}, histories


def main():
    parser = command_line(__doc__, PRESETS, "runs/flow_matching", ("zn", "zp"), trainings=1, dry=True)
    parser.add_argument("--rows", nargs="*", choices=IMAGES, default=list(IMAGES), help="beside the latent ones")
    args = parser.parse_args()
    p = preset_for(PRESETS, args.preset, args.detector)
    if args.dry_run:
        return dry_run(args, p)
    data = recipe_data(args, p, draws=range(1, p["generations"] + 1))
    own = single_arrivals(data.training, max(p[k]["batch"] for k in ("vae", "prior"))) if args.data else None
    images, histories = train_images(args, p, data, data.reach)
    latent, more = train_latent(args, p, data, own, data.reach)
    models = {"generator.keras": latent[SHIPPED]} | {f"{row}.keras": images[f"{IMAGES[row]}, euler 11"]
                                                     for row in args.rows}
    save_models(args, data, models)
    sizes = {name: p[name] for name in ("few", "generations", "arrivals", "pairs", "batches")}
    dials = {name: [f"latent, {name} {steps}" for sampler, steps in p["dial"] if sampler == name]
             for name in ("euler", "heun")}
    table, figure, text = judge_dial(images, latent, dials, data.test, data.floor, args.seed, **sizes)
    save_figure(figure, args.out / "dial.png")
    few = data.test[: p["few"]]
    shown = {label: partial(answer, generator, few) for label, generator in
             {SHIPPED: latent[SHIPPED], **images}.items()}
    table.provenance = data.provenance
    write_results(args, "flow_matching.txt", text, table, few, shown, histories | more)


if __name__ == "__main__":
    run(main)
