"""Diffusion: responses from noise against a schedule, the number of steps and eta being a dial.

The neutron study trained a U-Net to tell the noise in ln(1 + n) (DDPM, linear schedule, 1000 levels) and sampled it by
DDIM in 50 steps with eta 0.6: WS 3.15 at 5.4 ms a response on a GPU. The row "U-Net as published" has its images (no
noise is added to the photons, and what is below 0 at the end is 0), loss, schedule and AdamW, of its authors' code,
m-wojnar/zdc, no averaged weights, and a U-Net in the study's channels: not diffusers' own, `UNet` says what differs.
The code's cosine counts batches where rows are meant: it is over after 31 of 100 epochs and comes back; ours lasts as
long as the training. On a CPU a sample costs a tenth of a second to train, so that the laptop preset, at ten times the
study's rate, shows it undertrained. Beside it the velocity on the cosine schedule in patches that are told where the
impact is, and the same in the 16 latent codes of single arrivals (`zdckeras.modular`), where noise
and velocity, linear and cosine, and the whole dial cost minutes.

    python recipes/diffusion.py                          # embedded data, neutron calorimeter
    python recipes/diffusion.py --detector zp --rows     # the latent rows alone
    python recipes/diffusion.py --rows --seeds 3 --out runs/codes  # three trainings of the priors over codes
    python recipes/diffusion.py --preset paper --dry-run # what the trainings of whole responses would cost
    python recipes/diffusion.py --data showers.root      # your own showers, or a folder with the npz pair

Interrupted, the same command goes on where it stopped.
"""

from functools import partial
from itertools import product

from zdckeras.command import run
from zdckeras.diffusion.images import ImageDiffusion, ImageGenerator, fit_images
from zdckeras.diffusion.judging import judge_dial
from zdckeras.diffusion.latent import code_posteriors, fit_prior
from zdckeras.diffusion.unet import STUDY
from zdckeras.judging import answer
from zdckeras.modular.arrivals import single_arrivals
from zdckeras.modular.generator import ModularGenerator
from zdckeras.modular.training import fit_vae
from zdckeras.modular.transport import Transport
from zdckeras.plots import save_figure
from zdckeras.recipe import FEW, command_line, recipe_data, recipe_states, save_models, write_results
from zdckeras.simulation.reference import load
from zdckeras.training.cost import printed_cost

SHIPPED = "latent v, dpm_solver 10, seed 0"
ADAM = dict(rate=2.8e-5, beta_1=0.87, beta_2=0.82, epsilon=2.5e-10, weight_decay=5.5e-4, warmup=0.1,
            global_clipnorm=1.0)  # of the published row
IMAGES = {  # row -> name, what is learnt, and how it is sampled
    "published": ("U-Net as published", dict(schedule="linear", target="noise", levels=1000, limit=7.0)),
    "patches": ("patches", dict(schedule="cosine", target="velocity", levels=1000)),
}
LATENT = {"latent eps": dict(schedule="linear", target="noise", levels=1000, limit=5.0),
          "latent v": dict(schedule="cosine", target="velocity", levels=1000)}
DIAL = (("ddim", 2, 0.0), ("ddim", 5, 0.0), ("ddim", 20, 0.0), ("ddim", 50, 0.0), ("ddim", 50, 0.6), ("ddim", 50, 1.0),
        ("dpm_solver", 5, 0.0), ("dpm_solver", 10, 0.0))
BRIEF = (("ddim", 50, 0.6),)  # the dial of the first of `LATENT`
PRESETS = {
    "laptop": dict(
        train=40_000, test=5_000, generations=2, few=500, arrivals=4_000, pairs=2_000, dial=DIAL, brief=BRIEF,
        batches=(1, 256), levels=3,
        images=dict(sampler="ddim", steps=50, eta=0.6),
        published=dict(rows=2_000, network="unet", sizes=STUDY,
                       fit=dict(epochs=1, batch=32, adam=ADAM | dict(rate=2.8e-4))),
        patches=dict(rows=40_000, network="patches", fit=dict(epochs=2, batch=128, rate=1e-3)),
        vae=dict(rows=60_000, epochs=45, batch=256, rate=1e-3, decoder=dict(rank=128)),
        codes=150_000, prior=dict(epochs=15, batch=512, rate=2e-3)),
    "paper": dict(
        train=214_746, test=60_000, generations=5, few=60_000, arrivals=20_000, pairs=20_000, dial=DIAL, brief=BRIEF,
        batches=(1, 256), levels=3, images=dict(sampler="ddim", steps=50, eta=0.6),
        published=dict(rows=214_746, network="unet", sizes=STUDY, fit=dict(epochs=100, batch=256, adam=ADAM)),
        patches=dict(rows=214_746, network="patches", sizes=dict(hidden=192, depth=6),
                     fit=dict(epochs=100, batch=256, rate=1e-3)),
        vae=dict(rows=300_000, epochs=40, batch=256, rate=1e-3, latent=32,
                 decoder=dict(hidden=(512, 768), known=384, rim=96)),
        codes=2_000_000, prior=dict(epochs=40, batch=1024, rate=2e-3, hidden=384)),
    "smoke": dict(
        train=128, test=96, generations=2, few=64, arrivals=64, pairs=32, dial=(("dpm_solver", 10, 0.0),),
        brief=(("ddim", 2, 0.6),), batches=(4,), levels=1, images=dict(sampler="ddim", steps=2, eta=0.6),
        published=dict(rows=64, network="unet", sizes=STUDY | dict(channels=2, multipliers=(1, 2), blocks=1, heads=1),
                       fit=dict(epochs=1, batch=32, adam=ADAM)),
        patches=dict(rows=64, network="patches", sizes=dict(patch=11, hidden=8, depth=1, across=4),
                     fit=dict(epochs=1, batch=32, rate=1e-3)),
        vae=dict(rows=128, epochs=1, batch=64, rate=1e-3, latent=4, encoder=dict(hidden=(16, 8)),
                 decoder=dict(hidden=(8, 8), known=8, rim=4), prior=dict(steps=1, hidden=(8,), context=8)),
        codes=128, prior=dict(epochs=1, batch=64, rate=1e-3, hidden=16, depth=2, context=8)),
}


def named(name, sampler, steps, eta):
    """Label of a row."""
    return f"{name}, {sampler} {steps}" + (f", eta {eta:g}" if eta else "")


def image_models(args, p, training):
    """Of whole responses, in the rows asked for."""
    for row in args.rows:
        yield row, ImageDiffusion.fit_scales(training, p[row]["network"], p[row].get("sizes"), args.seed,
                                             published=row == "published", **IMAGES[row][1], **p["images"])


def dry_run(args, p):
    """What the trainings of these would cost."""
    for row, model in image_models(args, p, load(args.detector, "train", FEW)):
        printed_cost({row: model.passes()["network"]}, p[row]["rows"], p[row]["fit"])


def train_images(args, p, data, reach):
    """Generators of whole responses, in the rows asked for, and histories."""
    generators, histories = {}, {}
    for row, model in image_models(args, p, data.training):
        (name, learnt), settings = IMAGES[row], p[row]
        some = {key: values[: settings["rows"]] for key, values in data.arrays.items()}
        path = recipe_states(args, p["train"], settings, learnt, data=data) / f"{row}.npz"
        histories[name] = fit_images(model, some, path, seed=args.seed, **settings["fit"])
        generators[named(name, **p["images"])] = ImageGenerator(model, *reach)
    return generators, histories


def train_latent(args, p, data, own, reach):
    """Generators in the latent space, one for each position of the dial and seed, and histories."""
    name, histories, generators = args.detector, {}, {}
    path = recipe_states(args, p["vae"], data=data) / "autoencoder.npz"
    vae, histories["autoencoder"] = fit_vae(name, path, seed=args.seed, own=own, **p["vae"])
    codes = code_posteriors(vae, p["codes"], args.seed, own)
    for k, (row, dial) in product(range(args.seeds), zip(LATENT, (p["brief"], p["dial"]), strict=True)):
        stages = p["vae"], p["codes"], p["prior"], LATENT[row], *([f"seed {k}"] if k else [])
        path = recipe_states(args, *stages, data=data) / f"{row.replace(' ', '_')}.npz"
        prior, histories[f"{row}, seed {k}"] = fit_prior(vae, codes, path, seed=args.seed + k, **LATENT[row],
                                                         **p["prior"])
        for sampling in dial:
            parts = Transport(name, p["levels"]), prior.sampled_by(*sampling), vae.decoder
            generators[f"{named(row, *sampling)}, seed {k}"] = ModularGenerator(*parts, *reach)
    return generators, histories


def main():
    parser = command_line(__doc__, PRESETS, "runs/diffusion", ("zn", "zp"), trainings=1, dry=True)
    parser.add_argument("--rows", nargs="*", choices=IMAGES, default=list(IMAGES), help="beside the latent ones")
    args = parser.parse_args()
    p = PRESETS[args.preset]
    if args.dry_run:
        return dry_run(args, p)
    data = recipe_data(args, p, draws=range(1, p["generations"] + 1))
    own = single_arrivals(data.training, max(p[k]["batch"] for k in ("vae", "prior"))) if args.data else None
    images, histories = train_images(args, p, data, data.reach)
    latent, more = train_latent(args, p, data, own, data.reach)
    models = {"generator.keras": latent[SHIPPED]}
    models |= {f"{row}.keras": images[named(IMAGES[row][0], **p["images"])] for row in args.rows}
    save_models(args, data, models)
    sizes = {name: p[name] for name in ("few", "generations", "arrivals", "pairs", "batches")}
    dials = {name: [named("latent v", *sampling) for sampling in p["dial"] if sampling[0] == name and not sampling[2]]
             for name in ("ddim", "dpm_solver")}
    table, figure, text = judge_dial(images, latent, dials, data.test, data.floor, args.seed, **sizes)
    save_figure(figure, args.out / "dial.png")
    few = data.test[: p["few"]]
    shown = {label: partial(answer, generator, few) for label, generator in
             {SHIPPED: latent[SHIPPED], **images}.items()}
    table.provenance = data.provenance
    write_results(args, "diffusion.txt", text, table, few, shown, histories | more)


if __name__ == "__main__":
    run(main)
