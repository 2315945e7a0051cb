"""The LHCb case: a Wasserstein GAN with gradient penalty, conditional by a pretrained regressor, as published and ours.

What the study did (Chekalina et al., "Generative Models for Fast Calorimeter Simulation", arXiv:1812.01319): electrons
of 1 to 100 GeV in a shashlik calorimeter, conditions (px, py, pz, x, y); a regressor learns them from responses, then
helps the critic of a WGAN-GP; 3000 epochs, 70 hours on a K80; judged by shower shapes. The row "published" is that
model, its last grid the image (`zdckeras.wgan_gp.published`; laptop: a quarter of the channels). Ours knows where the
particle hits (see `zdckeras.wgan_gp.networks`), starts from a proper score without a critic, and keeps that score
beside the critic. Both meet a critic in as many steps of the same batches; steps and processor times are in the report.

    python recipes/wgan_gp.py                         # embedded Geant4 electrons
    python recipes/wgan_gp.py --seeds 3               # three trainings of both
    python recipes/wgan_gp.py --data electrons.root   # your own showers, or a folder with the npz pair
    python recipes/wgan_gp.py --preset paper --dry-run

Interrupted, the same command goes on where it stopped. Of ours, three trainings: 13 min 31 s (811 s) of processor time
each; the separation power of the total energy is 0.0011 (floor 0.0009), AUC 0.936, before it meets the critic 0.911.
"""

from functools import partial
from operator import itemgetter

from zdckeras.command import run
from zdckeras.data.transforms import BoxCox
from zdckeras.judging import Trained, generator_of
from zdckeras.metrics.directional import sparsity
from zdckeras.metrics.energy_report import EnergyReport
from zdckeras.metrics.times import milliseconds
from zdckeras.metrics.trainings import by_row, critics_at_end, of_seed, ordering, over_seeds
from zdckeras.plots import learning_curves, save_figure, write_energy_pictures
from zdckeras.provenance import provenance_text
from zdckeras.recipe import command_line, recipe_data, recipe_states, save_models
from zdckeras.training.adversarial import train_adversarially, warm_start_scores
from zdckeras.training.cost import printed_cost, timed
from zdckeras.training.loop import fit_arrays
from zdckeras.wgan_gp.model import EnergyGenerator, EnergyScoreFit, ResponseWGAN
from zdckeras.wgan_gp.published import PARAMETERS as NAMES
from zdckeras.wgan_gp.published import ImageRegressor, ImageWGAN, published_reader
from zdckeras.wgan_gp.regression import EmulatorFit, RegressorFit, parameter_errors
from zdckeras.wgan_gp.regressor import PARAMETERS, Emulator, ParameterRegressor

PRESETS = {
    "laptop": dict(
        train=50_000, test=10_000, pairs=1_000, channels=(64, 32, 16, 8), latent=512, critic_steps=5, divide=4,
        published=dict(epochs=4, batch=80, generator=1e-3, critic=1e-3),
        emulator=dict(epochs=4, batch=256, rate=2e-3), regressor=dict(epochs=4, batch=128, rate=1e-3),
        warm_start=dict(epochs=8, batch=64, rate=1e-3),
        adversarial=dict(epochs=4, batch=80, generator=1e-4, critic=3e-4)),
    "paper": dict(
        train=50_000, test=10_000, pairs=4_000, channels=(256, 128, 64, 32), latent=512, critic_steps=5, divide=1,
        published=dict(epochs=3000, batch=320, generator=1e-4, critic=1e-4),
        emulator=dict(epochs=20, batch=256, rate=2e-3), regressor=dict(epochs=50, batch=128, rate=1e-3),
        warm_start=dict(epochs=50, batch=64, rate=1e-3),
        adversarial=dict(epochs=3000, batch=640, generator=1e-4, critic=1e-4)),
    "smoke": dict(
        train=128, test=96, pairs=32, channels=(8, 4, 4, 2), latent=16, critic_steps=1, divide=32,
        published=dict(epochs=1, batch=64, generator=1e-3, critic=1e-3),
        emulator=dict(epochs=1, batch=64, rate=1e-3), regressor=dict(epochs=1, batch=64, rate=1e-3),
        warm_start=dict(epochs=1, batch=64, rate=1e-3),
        adversarial=dict(epochs=1, batch=64, generator=1e-4, critic=3e-4)),
}
THRESHOLDS = (0.01, 0.1, 1.0, 10.0, 100.0)  # MeV, of the sparsity, figure 5
ADAM = {"beta_1": 0.0, "beta_2": 0.9}  # of arXiv:1704.00028; the study does not say
WGAN_WEIGHTS = {"adversarial": 0.1, "energy": 1.0}


def train_regressors(args, p, data, states, boxcox):
    """Regressors of the particle's parameters by name: with the perceptual loss, and with the squared error beside."""
    def fit(model, name, settings):
        fit_arrays(model, data.arrays, states / f"{name}.npz", seed=args.seed, **settings)

    detector = data.training.detector().name
    regressors = {name: ParameterRegressor.fit_scales(data.training.particles, detector, channels=p["channels"],
                                                      seed=args.seed) for name in ("perceptual", "mean squared error")}
    emulator = Emulator(detector, seed=args.seed)
    fit(EmulatorFit(emulator, regressors["perceptual"], boxcox), "emulator", p["emulator"])
    fit(RegressorFit(regressors["perceptual"], boxcox, emulator), "perceptual", p["regressor"])
    fit(RegressorFit(regressors["mean squared error"], boxcox), "mean squared error", p["regressor"])
    published = ImageRegressor.fit_scales(published_reader(p["divide"], args.seed), data.training)
    emulator = Emulator(detector, seed=args.seed)
    fit(EmulatorFit(emulator, published, boxcox), "emulator of the published one", p["emulator"])
    fit(RegressorFit(published, boxcox, emulator), "published", p["regressor"])
    return regressors, published


def train_published(p, data, folder, boxcox, regressor, seed):
    """The model as published, its history and its processor seconds."""
    gan, path = ImageWGAN.published(regressor, boxcox, p["divide"], p["latent"], seed,
                                    critic_steps=p["critic_steps"]), folder / "published WGAN-GP.npz"
    print(f"published generator: {gan.generator.count_params():,} weights; critic: {gan.critic.count_params():,}")
    return gan, *timed(partial(train_adversarially, gan, data.arrays, path, seed=seed, adam=ADAM,
                               uniform={"share": (1, 1)}, **p["published"]))


def train_gan(p, data, folder, boxcox, regressor, seed):
    """First on the score alone, then with the critic: the model, weights of its average, histories and seconds."""
    gan = ResponseWGAN.fit_scales(
        data.training, regressor, boxcox, weights=WGAN_WEIGHTS, seed=seed, momentum=0.99,
        generator=dict(channels=p["channels"], latent=p["latent"]), critic=dict(channels=p["channels"]),
        critic_steps=p["critic_steps"])
    print(f"generator: {gan.generator.count_params():,} weights, {2e-6 * gan.generator.operations():.1f} MFLOP a "
          f"response; critic: {gan.critic.count_params():,} weights")
    stages = {"score": (EnergyScoreFit(gan), data.arrays, p["warm_start"])}
    histories, first = timed(partial(warm_start_scores, gan, stages, folder, seed))
    weights, path = {"ours, score alone": gan.average.get_weights()}, folder / "WGAN-GP.npz"
    histories["ours"], more = timed(partial(train_adversarially, gan, data.arrays, path, seed=seed,
                                            uniform={"share": (1, 1)}, **p["adversarial"]))
    weights["ours"] = gan.average.get_weights()
    return gan, weights, histories, {"ours, score alone": first, "ours": first + more}


def train_models(args, p, data, states, boxcox, regressor, reader):
    """Both families with every seed: generators, histories and processor seconds by "<row>, seed <k>"."""
    edges = data.training.particles.min(axis=0), data.training.particles.max(axis=0)
    trained, histories, seconds = {}, {}, {}
    for k in range(args.seeds):
        seed, folder = args.seed + k, states / f"seed{k}"
        published, history, spent = train_published(p, data, folder, boxcox, reader, seed)
        gan, weights, learnt, took = train_gan(p, data, folder, boxcox, regressor, seed)
        ours, found = EnergyGenerator(gan.average, *edges), {"published": EnergyGenerator(published.generator, *edges)}
        found |= {name: Trained(ours, ours.network, values) for name, values in weights.items()}
        trained |= of_seed(found, k)
        histories |= of_seed({"published": history, **learnt}, k)
        seconds |= of_seed({"published": spent, **took}, k)
    return trained, histories, seconds


def numbered(names):
    """Columns of a table whose scores are arrays."""
    return {name: itemgetter(k) for k, name in enumerate(names)}


def judge_models(args, p, data, boxcox, regressors, published, trained):
    """The report on the test set, the regressors' errors on real and generated responses, and times."""
    test, responses = data.test, {"floor": data.floor[0]} if data.floor else {}
    responses |= {name: one.sample(test.particles, args.seed) for name, one in trained.items()}
    read = {"real, mean squared error": parameter_errors(regressors["mean squared error"], boxcox, test.response,
                                                         test.particles)}
    read |= {name: parameter_errors(regressors["perceptual"], boxcox, energy, test.particles)
             for name, energy in {"real": test.response, **responses}.items()}
    errors = over_seeds(read, numbered(PARAMETERS), "the regressor's errors (half the central 68 %)", digits=4)
    momenta = over_seeds({"real": parameter_errors(published, boxcox, test.response, test.particles)}, numbered(NAMES),
                         "the published regressor's errors", digits=4)
    shares = {name: sparsity(energy, THRESHOLDS).mean(axis=0)
              for name, energy in {"real": test.response, **responses}.items()}
    thresholds = over_seeds(shares, numbered(f"{t:g} MeV" for t in THRESHOLDS), "share of cells above", digits=4)
    times = [["ms a response", "batch 1", "batch 256"], *([name, *(
        f"{milliseconds({'': [generator_of(trained[f'{name}, seed 0'])]}, test.particles, size)[''] / size:.3f}"
        for size in (1, 256))] for name in ("published", "ours"))]
    return EnergyReport(test, responses, args.seed, p["pairs"]), thresholds, errors, momenta, times


def verdict(report):
    """Whether the critic brings channel sums nearer to those of the simulation than the score alone does."""
    found = by_row({name: one["WS"] for name, one in report.quality.items()})
    return f"ours: {ordering({row: found[row] for row in ('ours, score alone', 'ours')})}"


def training_tables(p, data, histories, seconds):
    """Two tables over the trainings: the generator's steps and processor seconds, and where the critics stood."""
    took = {}
    for name, spent in seconds.items():
        batch = p["published" if name.startswith("published") else "adversarial"]["batch"]
        took[name] = spent, len(histories.get(name, {}).get("loss", ())) * (len(data.training) // batch)
    spent = over_seeds(took, {"generator's steps": itemgetter(1), "processor s": itemgetter(0)})
    return spent, critics_at_end(histories)


def main():
    args = command_line(__doc__, PRESETS, "runs/wgan_gp", trainings=1, dry=True).parse_args()
    p, out = PRESETS[args.preset], args.out
    if args.dry_run:
        regressor = ImageRegressor(published_reader(p["divide"]), "ecal", [0.0] * 5, [1.0] * 5)
        gan = ImageWGAN.published(regressor, {}, p["divide"], p["latent"], critic_steps=p["critic_steps"])
        return printed_cost(gan.passes(), p["train"], p["published"])
    data = recipe_data(args, p, "ecal")
    states = recipe_states(args, p, WGAN_WEIGHTS, ADAM, data=data)
    boxcox = BoxCox.fit(data.training.response[:5000]).get_config()
    print(f"Box-Cox: lambda {boxcox['power']:.3f}, shift {boxcox['shift']} MeV")
    regressors, reader = train_regressors(args, p, data, states, boxcox)
    trained, histories, seconds = train_models(args, p, data, states, boxcox, regressors["perceptual"], reader)
    save_models(args, data, {"published.keras": trained["published, seed 0"],
                             "generator.keras": trained["ours, seed 0"].ready()})
    report, *tables = judge_models(args, p, data, boxcox, regressors, reader, trained)
    tables += [*training_tables(p, data, histories, seconds), verdict(report), provenance_text(data.provenance)]
    print("\n" + report.write(out, *tables))
    write_energy_pictures(out, report)
    save_figure(learning_curves(histories), out / "learning.png")
    print(f"tables, pictures and generators are in {out}")


if __name__ == "__main__":
    run(main)
