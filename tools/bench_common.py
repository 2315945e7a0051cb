"""What benchmarks share: each contender alone in a process pinned to its cores, rows of JSON, versions, times."""

import fcntl
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np

from zdckeras.data.atomic import write_text


def version(package):
    """Installed version, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine(threads):
    """The processor, its cores and how many threads are used, in words."""
    information = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in information.read_text().splitlines()
             if line.startswith("model name")] if information.exists() else []
    return (f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
            f"{threads} thread(s) used, Python {platform.python_version()}")


def device():
    """What the running backend computes on, in words."""
    import keras

    if keras.config.backend() == "jax":
        import jax

        return jax.devices()[0].device_kind
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        found = tf.config.list_physical_devices("GPU")
        return tf.config.experimental.get_device_details(found[0]).get("device_name", "GPU") if found else "cpu"
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def pin(threads):
    """Keep this process on the last `threads` cores it may run on."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


def run_alone(script, contender, arguments, threads, **environment):
    """Run `script arguments --measure contender` in a fresh process; its rows and why it failed (None if it did not).

    What the process prints as one JSON object a line are its rows. `environment` is added to this process's.
    """
    count = str(threads)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": count,
        "TF_NUM_INTRAOP_THREADS": count,
        "TF_NUM_INTEROP_THREADS": count,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={'false' if threads == 1 else 'true'}",
        **environment,
    }
    done = subprocess.run([sys.executable, script, *arguments, "--measure", contender], env=environment,
                          capture_output=True, text=True)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return rows, done.stderr.strip()[-2000:] or f"exit code {done.returncode}" if done.returncode else None


def compiled(function, xla=False):
    """A function of tensors as the running backend runs it fastest: TensorFlow's graph, or XLA if told; JAX's jit.

    Torch stays eager, without gradients.
    """
    import keras

    if keras.config.backend() == "jax":
        import jax

        return jax.jit(function)
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=xla)
    import torch

    return torch.no_grad()(function)


def matrix_rate(size=768, readings=7):
    """Floating-point operations a second of a product of two float32 matrices in NumPy, in processor time."""
    a = np.random.default_rng(0).standard_normal((size, size), "float32")
    return 2 * size**3 / float(np.median([timed(lambda: a @ a)[2] for _ in range(readings)][1:]))


def device_rate(size=8192, readings=7):
    """The same of the running backend's own product on its device, on the clock, in its precision of float32."""
    import keras

    a = keras.ops.convert_to_tensor(np.random.default_rng(0).standard_normal((size, size), "float32"))
    product = compiled(lambda a: keras.ops.matmul(a, a)[0, 0])
    times = [timed(lambda: keras.ops.convert_to_numpy(product(a)))[1] for _ in range(readings)]
    return 2 * size**3 / float(np.median(times[2:]))


def timed(run):
    """Result of `run()`, its seconds and the seconds of processor time, which other processes do not disturb."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    return result, time.perf_counter() - wall, time.process_time() - cpu


@contextmanager
def turn(lock):
    """Waits until no other process is within the same file's turn; at once without a file."""
    with nullcontext() if lock is None else open(lock, "a", encoding="utf-8") as file:
        if file is not None:
            fcntl.flock(file, fcntl.LOCK_EX)  # given back when the file is closed
        yield


def write_json(path, record):
    """Write a record as JSON, whole or not at all."""
    write_text(path, json.dumps(record, indent=1, default=str))
