"""Grid search over the weights of the SDI-GAN's terms: the lowest WS on validation showers, over several seeds.

The proton ZDC study searched lambda_div in {1e-2, 1e-1, 1}, lambda_in in {1e-7, ..., 1e-11} and lambda_aux in
{1e-4, 1e-3, 1e-2}. Its lambda_in belongs to a squared difference of sums over a batch; eq. 4 as it is printed, which
is what we have of both kinds of networks, is a mean over samples of photons, where such weights are nothing: the grid
of its own networks (--published) has as many decades around 1e-3, the default one of ours 1e-4, 1e-3, 1e-2.

    python tools/sweep.py
    python tools/sweep.py --detector zn --data showers.root --seeds 5 --workers 8 --diversity 1e-2 1e-1 1 10
    python tools/sweep.py --published --preset paper --seeds 5     # the appendix of the proton study, for a GPU

Of ours, all points of a seed start from the same generator, trained without a critic once and kept in a file. Points
are kept in an Optuna journal, `sweep.journal`. Killed, the same command goes on: finished points stay, unfinished
ones are trained on from their last epoch, and points whose loss diverged are not tried again. Points on a larger grid
join those that are there; other settings begin a study of their own in the same file.
"""

import argparse
import fcntl
import json
import os
import runpy
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import redirect_stdout
from functools import lru_cache
from hashlib import sha256
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import optuna
from matplotlib.figure import Figure

from zdckeras.command import run, whole

RECIPE = runpy.run_path(str(Path(__file__).parents[1] / "recipes" / "sdi_gan.py"))
BASE = {name: weight for name, weight in RECIPE["OURS"].items() if name == "energy"}  # all that is not searched
PENALTY, MOMENTUM = RECIPE["PENALTY"], RECIPE["MOMENTUM"]


def preset(name, rows, **shape):
    """The recipe's networks and stages of training, on so many showers; `shape` changes the second stage."""
    recipe = RECIPE["PRESETS"][name]
    stages = {stage: {key: value for key, value in recipe[stage].items() if key != "rows"}
              for stage in ("sums", "shape", "adversarial")}
    stages["shape"] |= shape
    return {"rows": rows, "epochs": stages["adversarial"].pop("epochs"), **stages} | {
        name: recipe[name] for name in ("validation", "generator", "critic")}


PRESETS = {"laptop": preset("laptop", 20_000, epochs=3), "smoke": preset("smoke", 256),
           "paper": preset("paper", RECIPE["PRESETS"]["paper"]["train"])}
STUDY = "zp"  # whose grid that of the published networks is
PUBLISHED = {"diversity": [1e-2, 1e-1, 1.0], "intensity": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1],
             "auxiliary": [1e-4, 1e-3, 1e-2]}
GRID = {"diversity": [1e-2, 1e-1, 1.0], "intensity": [1e-4, 1e-3, 1e-2], "auxiliary": [1e-4, 1e-3, 1e-2]}
SYMBOLS = {"diversity": r"\lambda_{div}", "intensity": r"\lambda_{in}", "auxiliary": r"\lambda_{aux}"}


def die_with(parent):
    """End this worker when the process that started it is gone."""
    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@lru_cache(maxsize=1)
def data(detector, source, rows, validation):
    """Training and validation showers and the arrays to train on."""
    from zdckeras.data.files import open_showers
    from zdckeras.gan.model import training_arrays
    from zdckeras.simulation.reference import load

    if source is not None:
        training, held, _ = open_showers(source).only(detector).at_least().split()
        training, held = training[:rows], held[:validation]
    else:
        training, held = load(detector, "train", rows), load(detector, "validation", validation)
    return training, held, training_arrays(training)


def started(settings, seed, weights, states):
    """A fresh model with the common start of its seed, trained if it is not there yet."""
    from zdckeras.gan.model import ResponseGAN, score_stages
    from zdckeras.training.adversarial import warm_start_scores

    training, *_ = data(settings["detector"], settings["data"], settings["rows"], settings["validation"])
    gan = ResponseGAN.fit_scales(training, weights=BASE | weights, penalty=PENALTY, momentum=MOMENTUM, seed=seed,
                                 generator=settings["generator"], critic=settings["critic"])
    warm_start_scores(gan, score_stages(gan, training, settings["sums"], settings["shape"]), states / f"seed{seed}",
                      seed)
    return gan


def published(settings, seed, weights):
    """A fresh model of the study's networks and terms."""
    from zdckeras.data.particles import Scaler

    training, *_ = data(settings["detector"], settings["data"], settings["rows"], settings["validation"])
    return RECIPE["published_gan"](STUDY, settings["sizes"], Scaler.fit(training.particles).get_config(), weights, seed)


def prepare(settings, seed, states):
    """The common start of a seed, in a worker; the study's models begin with fresh weights."""
    if "published" in settings:
        return
    with open(states / f"start{seed}.log", "a") as log, redirect_stdout(log):
        started(settings, seed, {}, states)


def evaluate(settings, weights, states):
    """WS on the validation showers for every seed, in a worker; or the message of a training that diverged."""
    from zdckeras.gan.generator import GanGenerator
    from zdckeras.gan.images import ImageGanGenerator
    from zdckeras.metrics.channels import Residuals, ws
    from zdckeras.training.adversarial import train_adversarially
    from zdckeras.training.checkpoint import DivergedError

    _, held, arrays = data(settings["detector"], settings["data"], settings["rows"], settings["validation"])
    name, scores, files = "_".join(f"{k}{float(v)}" for k, v in weights.items()), [], []
    with open(states / f"{name}.log", "a") as log, redirect_stdout(log):
        for seed in range(settings["seeds"]):
            plain = settings.get("published")
            gan = published(settings, seed, weights) if plain else started(settings, seed, weights, states)
            files.append(states / f"seed{seed}" / f"{name}.npz")
            try:
                train_adversarially(gan, arrays, files[-1], settings["epochs"], seed=seed,
                                    **(plain or settings["adversarial"]))
            except DivergedError as error:
                return str(error)
            generator = ImageGanGenerator.of(gan) if plain else GanGenerator(gan.average)
            made = generator.sample(held.particles, [seed, 1])
            scores.append(ws(Residuals.between(held.response, made)))
    for file in files:
        file.unlink()
    return scores


def take_up(study, points):
    """Put into the study's queue whatever point of the grid has no result yet; trials left by killed runs fail."""
    queued = []
    for trial in study.get_trials(deepcopy=False):
        if trial.state == optuna.trial.TrialState.RUNNING:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        elif trial.state == optuna.trial.TrialState.WAITING:
            queued.append(trial.system_attrs["fixed_params"])
        elif trial.state == optuna.trial.TrialState.COMPLETE or "diverged" in trial.user_attrs:
            queued.append(trial.params)
    for point in points:
        if point not in queued:
            study.enqueue_trial(point)


def search(study, settings, pool, states):
    """Train all queued points, as many at a time as there are workers."""
    space = {name: optuna.distributions.FloatDistribution(0.0, 1e9) for name in GRID}
    left = [t for t in study.get_trials(deepcopy=False) if t.state == optuna.trial.TrialState.WAITING]
    starts = [pool.submit(prepare, settings, seed, states) for seed in range(settings["seeds"] if left else 0)]
    for done in starts:
        done.result()
    busy, count = {}, len(left)
    while count or busy:
        while count and len(busy) < settings["workers"]:
            trial, count = study.ask(space), count - 1
            busy[pool.submit(evaluate, settings, trial.params, states)] = trial
        for done in wait(busy, return_when=FIRST_COMPLETED).done:
            trial, scores = busy.pop(done), done.result()
            if isinstance(scores, str):
                trial.set_user_attr("diverged", scores)
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                trial.set_user_attr("ws", scores)
                study.tell(trial, float(np.mean(scores)))
            point = ", ".join(f"{name} {value:g}" for name, value in trial.params.items())
            result = scores if isinstance(scores, str) else f"WS {np.mean(scores):.3f}"
            print(f"{point}: {result}; {count + len(busy)} to go", flush=True)


def results(study):
    """Finished points, the best first: their weights and the WS of each seed; those that diverged come last."""
    trials = study.get_trials(deepcopy=False)
    rows = [{**t.params, "ws": t.user_attrs["ws"]} for t in trials if t.state == optuna.trial.TrialState.COMPLETE]
    bad = [{**t.params, "ws": []} for t in trials if "diverged" in t.user_attrs]
    return sorted(rows, key=lambda row: np.mean(row["ws"])) + bad


def deviation(scores):
    """Sample standard deviation over seeds; 0 for one seed."""
    return float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0


def table(rows):
    """The table: weights, mean WS over seeds and its deviation."""
    from zdckeras.metrics.report import text_table

    lines = [["diversity", "intensity", "auxiliary", "WS", "+-", "seeds"]]
    for row in rows:
        scores = row["ws"]
        spread = f"{deviation(scores):.3f}" if len(scores) > 1 else "-"
        lines.append([*(f"{row[name]:g}" for name in GRID), f"{np.mean(scores):.3f}" if scores else "diverged", spread,
                      str(len(scores))])
    return text_table(lines)


def picture(rows):
    """WS against each weight: a dot for each point, a line through the best point of each value."""
    from zdckeras.plots.histograms import COLOURS

    rows = [row for row in rows if row["ws"]]
    figure = Figure(figsize=(10.0, 3.6), layout="constrained")
    axes = figure.subplots(1, len(GRID), sharey=True)
    for ax, (name, colour) in zip(axes, zip(GRID, COLOURS, strict=False), strict=True):
        best = {}
        for row in rows:
            mean = float(np.mean(row["ws"]))
            ax.plot(row[name], mean, ".", color=colour, alpha=0.5)
            best[row[name]] = min(best.get(row[name], row), row, key=lambda r: np.mean(r["ws"]))
        values = sorted(best)
        ax.errorbar(values, [np.mean(best[v]["ws"]) for v in values], [deviation(best[v]["ws"]) for v in values],
                    color=colour, marker="o", capsize=3, label="best for the other two")
        if min(values, default=0) > 0:
            ax.set_xscale("log")
        ax.set_xlabel(f"${SYMBOLS[name]}$")
    axes[0].set_ylabel("WS on validation showers [photons]")
    axes[0].legend()
    return figure


def main(arguments=None):
    """Search, print the table, write table and picture; 0 if all went well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, values in GRID.items():
        parser.add_argument(f"--{name}", type=float, nargs="+", metavar="LAMBDA",
                            help=f"default: {values}, with --published {PUBLISHED[name]}")
    parser.add_argument("--published", action="store_true", help="the networks and terms of the proton study")
    parser.add_argument("--detector", choices=("zn", "zp"), default="zp")
    parser.add_argument("--data", help="your showers: a .root file or a folder with the npz pair")
    parser.add_argument("--out", type=Path, default=Path("runs/sweep"))
    parser.add_argument("--seeds", type=whole(1), default=2, help="trainings of every point")
    parser.add_argument("--epochs", type=whole(1), help="of generator against critic")
    parser.add_argument("--rows", type=whole(1), help="training showers")
    parser.add_argument("--workers", type=whole(1), default=1, help="points trained at a time, each in its own process")
    parser.add_argument("--preset", choices=PRESETS, default="laptop")
    args = parser.parse_args(arguments)
    if args.published and args.detector != STUDY:
        parser.error(f"--published: expected the detector of the study, {STUDY}, received {args.detector}")
    grid = {name: list(dict.fromkeys(values if (given := getattr(args, name)) is None else given))
            for name, values in (PUBLISHED if args.published else GRID).items()}
    wrong = [v for values in grid.values() for v in values if not 0.0 <= v < 1e9]
    if wrong:
        parser.error(f"expected weights of at least 0 and below 1e9, received {wrong}")
    settings = {**PRESETS[args.preset], "detector": args.detector, "data": args.data, "seeds": args.seeds}
    if args.published:
        told = RECIPE["PRESETS"][args.preset]
        fit = dict(RECIPE["schedule"](told, STUDY, RECIPE["STUDY"][STUDY][-1]))  # of the row with all terms
        settings |= {"epochs": fit.pop("epochs"), "published": fit,
                     "sizes": {name: told[name] for name in ("divide", "divide_critic")}}
    settings |= {name: value for name in ("epochs", "rows") if (value := getattr(args, name)) is not None}
    if args.data is not None:  # by their content: the same name may come to hold other showers
        from zdckeras.training.states import digest

        training, held, _ = data(args.detector, args.data, settings["rows"], settings["validation"])
        settings["content"] = digest({f"{name} {key}": values for name, part in (("train", training), ("held", held))
                                      for key, values in (("particles", part.particles), ("response", part.response))})
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    name = sha256(json.dumps([settings, BASE, PENALTY, MOMENTUM, backend]).encode()).hexdigest()[:8]
    states = args.out / "states" / name
    states.mkdir(parents=True, exist_ok=True)

    with open(args.out / "sweep.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            parser.error(f"another search is at work in {args.out}")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        journal = optuna.storages.journal.JournalFileBackend(str(args.out / "sweep.journal"))
        study = optuna.create_study(storage=optuna.storages.JournalStorage(journal), study_name=name,
                                    direction="minimize", load_if_exists=True)
        take_up(study, [dict(zip(grid, values, strict=True)) for values in product(*grid.values())])
        with ProcessPoolExecutor(args.workers, get_context("spawn"), die_with, (os.getpid(),)) as pool:
            search(study, {**settings, "workers": args.workers}, pool, states)
    rows = results(study)
    report(rows, args.out)
    return 0


def report(rows, out):
    """Print the table, write it, the numbers and the picture."""
    from zdckeras.data.atomic import write_text
    from zdckeras.plots import save_figure

    text = table(rows)
    print(f"\n{text}\n\ntable, numbers and picture are in {out}")
    for file, content in (("sweep.txt", text + "\n"), ("sweep.json", json.dumps(rows, indent=1))):
        write_text(out / file, content)
    save_figure(picture(rows), out / "sweep.png")


if __name__ == "__main__":
    run(main)
