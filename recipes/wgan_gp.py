"""The LHCb case: a Wasserstein GAN with gradient penalty made conditional by a pretrained regressor, 30 x 30 cells.

What the study did (Chekalina et al., "Generative Models for Fast Calorimeter Simulation", arXiv:1812.01319): electrons
of 1 to 100 GeV in a shashlik calorimeter, conditions (px, py, pz, x, y); a regressor learns them from responses, then
helps the critic of a WGAN-GP; 3000 epochs, 70 hours on a K80; judged by shower shapes. Here the generator also knows
where the particle hits (see `zdckeras.wgan_gp.networks`), starts from a proper score without a critic, and keeps that
score beside the critic.

    python recipes/wgan_gp.py                         # embedded Geant4 electrons
    python recipes/wgan_gp.py --data electrons.root   # your own showers, or a folder with the npz pair

Interrupted, the same command goes on where it stopped.
"""

from zdckeras.data.transforms import BoxCox
from zdckeras.generators import milliseconds
from zdckeras.metrics.energy_report import EnergyReport
from zdckeras.plots import learning_curves, save_figure, write_energy_pictures
from zdckeras.recipe import command_line, showers_for
from zdckeras.training.adversarial import train_adversarially, warm_start_scores
from zdckeras.training.batches import Batches
from zdckeras.training.loop import fit_adam, states_folder
from zdckeras.wgan_gp.generator import EnergyGenerator
from zdckeras.wgan_gp.model import ResponseWGAN
from zdckeras.wgan_gp.regression import EmulatorFit, RegressorFit, parameter_errors
from zdckeras.wgan_gp.regressor import PARAMETERS, Emulator, ParameterRegressor
from zdckeras.wgan_gp.warm_start import EnergyScoreFit

NARROW = (64, 32, 16, 8)
PRESETS = {
    "laptop": dict(
        train=50_000, test=10_000, channels=NARROW, latent=512,
        emulator=dict(epochs=4, batch=256, rate=2e-3), regressor=dict(epochs=4, batch=128, rate=1e-3),
        start=dict(epochs=8, batch=64, rate=1e-3), play=dict(epochs=1, batch=320, generator=1e-4, critic=3e-4)),
    "paper": dict(
        train=50_000, test=10_000, channels=(256, 128, 64, 32), latent=512,
        emulator=dict(epochs=20, batch=256, rate=2e-3), regressor=dict(epochs=50, batch=128, rate=1e-3),
        start=dict(epochs=50, batch=64, rate=1e-3), play=dict(epochs=3000, batch=640, generator=1e-4, critic=1e-4)),
    "smoke": dict(
        train=640, test=160, channels=(8, 4, 4, 2), latent=16,
        emulator=dict(epochs=1, batch=64, rate=1e-3), regressor=dict(epochs=1, batch=64, rate=1e-3),
        start=dict(epochs=1, batch=64, rate=1e-3), play=dict(epochs=1, batch=320, generator=1e-4, critic=3e-4)),
}
WGAN_WEIGHTS = {"adversarial": 0.1, "energy": 1.0}


def main():
    args = command_line(__doc__, PRESETS, "runs/wgan_gp").parse_args()
    p, out = PRESETS[args.preset], args.out
    states = states_folder(out, p, WGAN_WEIGHTS, args.data, args.seed)

    # data
    training, _, test, (resimulated,) = showers_for("ecal", args.data, p, seed=args.seed)
    detector = training.detector().name
    arrays = {"conditions": training.particles.astype("float32"), "responses": training.response}
    boxcox = BoxCox.fit(training.response[:5000]).get_config()
    print(f"Box-Cox: lambda {boxcox['power']:.3f}, shift {boxcox['shift']} MeV")

    # regressors: with the perceptual loss, and with the mean squared error for comparison
    def fit(model, name):
        settings = p["emulator" if name == "emulator" else "regressor"]
        batches = Batches(arrays, settings["batch"], args.seed)
        return fit_adam(model, batches, states / f"{name}.npz", settings["epochs"], settings["rate"])

    made = {name: ParameterRegressor.fit_scales(training.particles, detector, channels=p["channels"], seed=args.seed)
            for name in ("perceptual", "mean squared error")}
    emulator = Emulator(detector, seed=args.seed)
    fit(EmulatorFit(emulator, made["perceptual"], boxcox), "emulator")
    fit(RegressorFit(made["perceptual"], boxcox, emulator), "perceptual")
    fit(RegressorFit(made["mean squared error"], boxcox), "mean squared error")
    regressor = made["perceptual"]

    # the GAN: first the score alone, then with the critic
    gan = ResponseWGAN.fit_scales(training, regressor, boxcox, weights=WGAN_WEIGHTS, seed=args.seed, momentum=0.99,
                                  generator=dict(channels=p["channels"], latent=p["latent"]),
                                  critic=dict(channels=p["channels"]))
    print(f"generator: {gan.generator.count_params():,} weights, {gan.generator.operations() / 1e6:.1f} MFLOP a "
          f"response; critic: {gan.critic.count_params():,} weights")
    histories = warm_start_scores(gan, {"score": (EnergyScoreFit(gan), arrays, p["start"])}, states, args.seed)
    weights = {"score alone": gan.average.get_weights()}
    histories["WGAN-GP"] = train_adversarially(gan, arrays, states / "WGAN-GP.npz", seed=args.seed,
                                               uniform={"share": (1, 1)}, **p["play"])
    weights["WGAN-GP"] = gan.average.get_weights()

    # judge on the test set, and write report, pictures and model
    generator = EnergyGenerator(gan.average, training.particles.min(axis=0), training.particles.max(axis=0))

    def sample(name):
        gan.average.set_weights(weights[name])
        return generator.sample(test.particles, args.seed)

    responses = {"floor": resimulated.response} | {name: sample(name) for name in weights}
    report = EnergyReport(test, responses, args.seed)
    seen = {f"real, {name}": (one, test.response) for name, one in made.items()}
    seen |= {f"{name}, perceptual": (regressor, responses[name]) for name in weights}
    errors = [["the regressor's errors (half the central 68 %)", *PARAMETERS]]
    for name, (one, energy) in seen.items():
        errors.append([name, *(f"{w:.4f}" for w in parameter_errors(one, boxcox, energy, test.particles))])
    gan.average.set_weights(weights["WGAN-GP"])
    times = [["ms a response", "batch 1", "batch 256"], ["WGAN-GP", *(
        f"{milliseconds({'': [generator]}, test.particles, size)[''] / size:.3f}" for size in (1, 256))]]
    print("\n" + report.write(out, errors, times))
    write_energy_pictures(out, report)
    save_figure(learning_curves(histories), out / "learning.png")
    generator.save(out / "generator.keras")
    print(f"report, pictures and the generator are in {out}")


if __name__ == "__main__":
    main()
