"""A campaign: many particles answered in shards by any number of workers, stopped and resumed at will, the same bytes.

Nothing here imports Keras before a worker has set how many threads it may use, nor what reads files: workers do not.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from threading import Lock, Thread

import numpy as np
from tqdm import tqdm

from zdckeras.campaign.answers import (
    BLOCK,
    about_exported,
    digest_of,
    hides_ids,
    knows_ids,
    open_answer,
    place_of,
    reach_of,
)
from zdckeras.campaign.shards import LAYOUT, OWN_FILES, Manifest, read_shard, write_shard
from zdckeras.data.atomic import alone_in, check_place, remove_leftovers_in
from zdckeras.data.particles import warn_outside, warn_unknown, warn_untold

ONE_THREAD = {**dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS",
                               "TF_NUM_INTEROP_THREADS"), "1"),
              "TF_CPP_MIN_LOG_LEVEL": "3"}
ONE_XLA_THREAD = "--xla_cpu_multi_thread_eigen=false"  # behind whatever flags there are
AHEAD = 2  # shards for each worker, or thread of one, that wait in memory
SHARE = 50  # of the time goes to the manifest, one part at most
LOADING = Lock()  # threads of a worker load a model once


def run_campaign(model: str, particles: str | Path, folder: str | Path, seed: int = 0, shard_rows: int = 10_240,
                 workers: int = 1, scheduler: str | None = None, progress: bool = True) -> Path:
    """Answer all particles of a file, in numbered shards shard-000000.npz, ... and their manifest.

    Block b of 256 rows draws its noise from (seed, b), so together the shards hold what `Sampler.sample` gives, and the
    bytes are the same for any number of workers. Workers are processes of one thread each, which load the model once
    and write their shards themselves; a shard counts as done when its checksum is in the manifest. Stopped in whatever
    way, the same call goes on; shards whose file is gone or has changed are made again.

    Arguments:
        model: see `zdckeras.campaign.answers.open_answer`.
        particles: see `zdckeras.campaign.events.particles_of`.
        folder: of the shards; made if missing.
        seed: of the noise, at least 0.
        shard_rows: rows of a shard, a multiple of 256.
        workers: processes on this machine.
        scheduler: address of a Dask cluster that works in place of them; it has to see the same files.
        progress: show a bar with rate and time left.

    Returns:
        The folder.

    Raises:
        FileNotFoundError, ValueError: for what is no model or holds no particles, wrong numbers, or a folder with a
            campaign of other settings.
        ImportError: if `distributed` is needed and not installed.
        RuntimeError: if a worker dies, no scheduler answers, workers write where this process finds nothing or find
            another model than it, or another process works in the folder; what is done stays.
    """
    if seed < 0 or shard_rows < BLOCK or shard_rows % BLOCK or workers < 1:
        raise ValueError(f"Expected a seed of at least 0, shards of a multiple of {BLOCK} rows and one worker or more, "
                         f"received {seed}, {shard_rows} and {workers}.")
    from zdckeras.data.files import OTHER_SUFFIXES, ROOT_SUFFIX

    folder = Path(folder)
    if (there := folder.is_file()) or folder.suffix.lower() in (ROOT_SUFFIX, *OTHER_SUFFIXES):
        raise ValueError(f"{folder}{' is a file' * there}: expected a folder for shards; `zdckeras merge` makes a file "
                         "of them.")
    check_place(folder / "manifest.json")
    if scheduler and find_spec("distributed") is None:
        raise ImportError("A Dask cluster needs the package distributed, which is not installed: pip install "
                          "distributed.")
    from zdckeras.campaign.events import particles_of

    digest = digest_of(model)
    conditions, pdg = particles_of(particles)
    if reach := reach_of(model):
        warn_outside(conditions, **reach)
    if hides_ids(about_exported(model)):
        warn_untold(str(model), pdg)
    if knows_ids(model):
        warn_unknown(str(model), pdg)
    settings = {"model_sha256": digest, "seed": seed, "block": BLOCK, "layout": LAYOUT, "shard_rows": shard_rows,
                "rows": len(pdg), "particles_sha256": sha256(np.column_stack([conditions, pdg]).tobytes()).hexdigest()}
    with alone_in(folder):
        remove_leftovers_in(folder, OWN_FILES)
        manifest = Manifest.open(folder, settings)
        for name in manifest.wrong():
            print(f"{folder / name} is missing or was changed, and is made again", file=sys.stderr)
            del manifest.shards[name]
        jobs = (job for job in _jobs(place_of(model), folder.resolve(), conditions, pdg, seed, shard_rows, digest)
                if job[1].name not in manifest.shards)
        results = _by_dask(jobs, scheduler) if scheduler else _by_processes(jobs, workers)
        _collect(results, manifest, len(pdg), progress)
    return folder


def _collect(results, manifest, total, progress):
    """Put results into the manifest as they come; it is saved with the first, and as often as that takes little time.

    So a model that is no generator leaves no campaign behind. Interrupted, it takes what is still made.
    """
    done, due, unsaved, last = sum(entry["rows"] for entry in manifest.shards.values()), 0.0, False, None
    with tqdm(total=total, initial=done, desc="generating", unit=" showers", disable=not progress) as bar:

        def note(name, rows, found):
            nonlocal due, unsaved
            if not (manifest.folder / name).is_file():
                raise RuntimeError(f"A worker says that it wrote {name}, which is not in {manifest.folder}: "
                                   "expected workers that see the same files.")
            unsaved = True
            bar.update(0 if name in manifest.shards else rows)
            manifest.shards[name] = {"rows": rows, "sha256": found}
            if (begin := time.monotonic()) >= due:
                manifest.save()
                unsaved, due = False, begin + SHARE * (time.monotonic() - begin)

        try:
            try:
                for last in results:
                    note(*last)
            except KeyboardInterrupt as stop:
                if last:  # that it came in the middle of
                    note(*last)
                note(*results.throw(stop))  # what is still made; it ends with the interrupt
                for last in results:
                    note(*last)
                raise
        finally:
            if unsaved:
                manifest.save()


def merge_shards(folder: str | Path, output: str | Path, overwrite: bool = False) -> Path:
    """Join the shards of a finished campaign into one ROOT file, or a folder of npz files, block by block.

    Raises:
        FileNotFoundError, ValueError: for a folder without a campaign, or one that is not whole.
        FileExistsError: as `zdckeras.data.files.write_showers`.
    """
    from zdckeras.data.files import files_in_the_way, write_showers

    manifest = Manifest.open(folder)
    files_in_the_way(output, overwrite)  # before hours of checksums
    total = sum(entry["rows"] for entry in manifest.shards.values())
    if total != manifest.settings.get("rows"):
        raise ValueError(f"{folder}: expected a finished campaign of {manifest.settings.get('rows')} showers, received "
                         f"{total} of them: give the same command again to go on.")
    if wrong := manifest.wrong():
        raise ValueError(f"{folder}: expected shards as they were written, received {', '.join(wrong)} missing or "
                         f"changed: give the same command again to make them anew.")
    metadata = {"source": f"campaign of {manifest.settings['model_sha256'][:12]}", "seed": manifest.settings["seed"]}
    blocks = (read_shard(manifest.folder / name, metadata) for name in manifest.names())
    return write_showers(blocks, total, output, overwrite)


def make_shard(model: str, path: Path, conditions: np.ndarray, pdg: np.ndarray, seed: int, first: int,
               digest: str = "") -> tuple[str, int, str]:
    """Answer the particles of one shard, whose first block has number `first`, and write it: name, rows, checksum.

    Raises:
        RuntimeError: if the model has not the digest (see `digest_of`) of the campaign, where that is given.
    """
    answer = _loaded(model, digest)
    blocks = (answer.unchecked(conditions[start : start + BLOCK], pdg[start : start + BLOCK], seed,
                               first + start // BLOCK) for start in range(0, len(pdg), BLOCK))
    return path.name, len(pdg), write_shard(path, conditions, pdg, blocks, first * BLOCK)


def _loaded(model, digest=""):
    """The model of this process, loaded once, whichever of its threads asks first: workers of a cluster outlive a
    campaign, and files of one name differ from one to the next."""
    with LOADING:
        return _opened(model, digest)


@cache
def _opened(model, digest):
    if "keras" not in sys.modules:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ.update(ONE_THREAD, XLA_FLAGS=f"{flags} {ONE_XLA_THREAD}".strip())
    answer = open_answer(model)
    if digest and digest_of(model) != digest:
        raise RuntimeError(f"{model} is another file than that with which the campaign began, and would be mixed with "
                           "it: bring that one back, or begin in another folder.")
    return answer


def _jobs(model, folder, conditions, pdg, seed, rows, digest) -> Iterator[tuple]:
    for number, start in enumerate(range(0, len(pdg), rows)):
        part = slice(start, start + rows)
        yield model, folder / f"shard-{number:06d}.npz", conditions[part], pdg[part], seed, start // BLOCK, digest


def _by_processes(jobs, workers):
    """Results of jobs, as they are done, by processes on this machine."""
    context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
    watched, alive = context.Pipe(duplex=False)  # closed with this process, however that ends
    with watched, alive, ProcessPoolExecutor(workers, context, _begin_worker, (watched,)) as pool:
        try:
            yield from _as_done(jobs, pool.submit, AHEAD * workers, lambda some: wait(some, None, FIRST_COMPLETED))
        except KeyboardInterrupt:
            alive.close()  # nothing is made any more, or nobody wants to wait for it
            raise
        except BrokenProcessPool:
            raise RuntimeError("A worker died, as it does when memory runs out or it is killed; the shards that are "
                               "done stay: give the same command again to go on.") from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _begin_worker(watched):
    """A worker leaves Ctrl-C, which the whole group of processes gets, to its parent, and ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with, args=(watched,), daemon=True).start()


def _end_with(watched):
    """End this process, whatever it does, when the other end of a pipe is closed."""
    with suppress(OSError):
        watched.poll(None)
    os._exit(1)


def _by_dask(jobs, address):
    """Results of jobs, as they are done, by the workers of a Dask cluster, which write their shards themselves."""
    from distributed import Client
    from distributed import wait as wait_for

    try:
        cluster = Client(address)
    except (OSError, ValueError) as error:
        raise RuntimeError(f"No scheduler of a Dask cluster answers at {address}: {error}") from None
    with cluster as client:
        threads = max(sum(client.nthreads().values()), 1)
        yield from _as_done(jobs, lambda *job: client.submit(*job, pure=False), AHEAD * threads,
                            lambda some: wait_for(some, return_when="FIRST_COMPLETED"),
                            lambda future: not future.done())


def _as_done(jobs, submit, ahead, wait_for, cancel=Future.cancel):
    """Hand out jobs, never more than `ahead` at a time, and give results as they come, errors last.

    After an error, or an interrupt, which may also be thrown in, jobs that are not begun are cancelled, and the results
    of the others come before it is raised.

    Arguments:
        jobs: arguments of `make_shard`.
        submit: function of `make_shard` and the arguments of a job that gives its future.
        ahead: futures at a time.
        wait_for: function of futures that gives, as `done`, those that are done when one is.
        cancel: function of a future, whether there is nothing to wait for any more.
    """
    jobs, open_ones = iter(jobs), set()
    try:
        while True:
            while len(open_ones) < ahead and (job := next(jobs, None)) is not None:
                open_ones.add(submit(make_shard, *job))
            if not open_ones:
                return
            for future in sorted(wait_for(list(open_ones)).done, key=lambda future: future.exception() is not None):
                yield future.result()  # once more if an interrupt comes here, which must not lose it
                open_ones.remove(future)
    except (Exception, KeyboardInterrupt) as error:
        open_ones = {future for future in open_ones if not cancel(future)}
        if isinstance(error, KeyboardInterrupt) and not all(future.done() for future in open_ones):
            print("\ninterrupted; shards that are being made are waited for, unless it is interrupted again",
                  file=sys.stderr)
        while open_ones:
            finished = wait_for(list(open_ones)).done
            open_ones -= finished
            for future in finished:
                if not future.cancelled() and future.exception() is None:
                    yield future.result()
        raise
