"""The only door to TensorFlow, JAX and torch: everything else in the package is plain Keras 3.

The backend is chosen by the environment variable KERAS_BACKEND before the first import.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import Any

import keras

Tensor = Any  # in hints: a tensor of the running backend, or a NumPy array in its place
EXACT = "exact"  # in the names of products that `exact_matmul` puts into TensorFlow's graphs
_compact = ContextVar("compact", default=False)
_sharing = {"devices": 1}  # how many share a batch


def name():
    """The running backend: "tensorflow", "jax" or "torch"."""
    return keras.config.backend()


def jit_compile():
    """The value for `compile(jit_compile=...)` that trains fastest.

    JAX always compiles. TensorFlow compiles with XLA on a GPU only: on a CPU its own graph is faster than XLA.
    Torch stays eager.

    Example:
        >>> jit_compile() in (True, False)
        True
    """
    if name() == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU"))
    return name() == "jax"


def jit_sampling():
    """The value of `jit_compile` with which generators of many small operations, or of loops, sample fastest.

    Keras would leave XLA out on a CPU, where TensorFlow's loops need it most. Torch stays eager.

    Example:
        >>> jit_sampling() == (name() != "torch")
        True
    """
    return name() != "torch"


def steps():
    """Gradients and training steps of the running backend, one module for each with the same seven names.

    value_and_grad(loss, variables) -> (value, remarks, gradients): `loss()` gives (scalar, remarks), remarks being
    any structure of tensors; variables that do not enter get zeros. What the loss assigns to other variables stays.

    grad(function, x): gradient of sum(function(x)) with the shape of x, itself differentiable (gradient penalty).

    apply(optimizer, gradients, variables): one update, whatever the optimizer (loss scaling branches).

    matmul(a, b): see `exact_matmul`.

    use_devices(number), shared(model): see `use_devices` and `shared`.

    Steps: base class of models that define `train_on(data)` and `test_on(data)`.

    Example:
        >>> x = keras.ops.convert_to_tensor([1.0, 2.0])
        >>> keras.ops.convert_to_numpy(steps().grad(lambda x: x**3, x)).tolist()
        [3.0, 12.0]
    """
    return import_module(f"zdckeras.backend.{name()}_steps")


def exact_matmul(a: Tensor, b: Tensor) -> Tensor:
    """A matrix product in float32 proper, where that matters: counts, cumulative sums, looked-up rows, inverses.

    GPUs of today round the factors of `keras.ops.matmul` to 11 bits (TF32), by default in TensorFlow and JAX: sums of
    more than 2048 photons would be off by some. On a CPU both are the same.

    Arguments:
        a, b: (..., n, k) and (..., k, m), float32, or both float64; gradients may be rounded.

    Returns:
        (..., n, m).

    Example:
        >>> a = keras.ops.convert_to_tensor([[4099.0, 1.0]])
        >>> keras.ops.convert_to_numpy(exact_matmul(a, keras.ops.ones((2, 1)))).tolist()
        [[4100.0]]
    """
    return steps().matmul(a, b)


def rows_at(table: Tensor, index: Tensor) -> Tensor:
    """`keras.ops.take` along the first axis for an index without negative numbers, which TensorFlow would look out for.

    Arguments:
        table: (N, ...).
        index: (...) whole numbers from 0 to N - 1.

    Example:
        >>> table, index = (keras.ops.convert_to_tensor(values) for values in ([5.0, 6.0, 7.0], [2, 0]))
        >>> keras.ops.convert_to_numpy(rows_at(table, index)).tolist()
        [7.0, 5.0]
    """
    if name() == "tensorflow":
        import tensorflow as tf

        return tf.gather(table, index)
    return keras.ops.take(table, index, axis=0)


def cropped(grid: Tensor, rows: int, columns: int, first: tuple[int, int] = (0, 0)) -> Tensor:
    """Some rows and columns of grids, whose gradient TensorFlow pads, where that of [:, :rows] takes ten times as long.

    Arguments:
        grid: (B, r, c, ...).
        rows, columns: how many.
        first: the first row and column of them.

    Example:
        >>> grid = keras.ops.reshape(keras.ops.arange(12), (1, 3, 4))
        >>> keras.ops.convert_to_numpy(cropped(grid, 2, 2, first=(1, 0))).tolist()
        [[[4, 5], [8, 9]]]
    """
    (i, j), more = first, len(grid.shape) - 3
    if name() == "tensorflow" and not isinstance(grid, keras.KerasTensor):
        import tensorflow as tf

        return tf.slice(grid, [0, i, j, *[0] * more], [-1, rows, columns, *[-1] * more])
    return grid[:, i : i + rows, j : j + columns]


def put_at(cache: Tensor, index: Tensor, new: Tensor) -> Tensor:
    """A cache (B, H, T, W) with other vectors (B, H, 1, W) at one of its T places; a loop does it without a copy.

    TensorFlow runs `keras.ops.slice_update` only where it compiles with XLA, and scatters rows everywhere.

    Example:
        >>> made = put_at(keras.ops.zeros((1, 1, 3, 2)), 1, keras.ops.ones((1, 1, 1, 2)))
        >>> keras.ops.convert_to_numpy(made[0, 0]).tolist()
        [[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
    """
    if name() == "tensorflow":
        import tensorflow as tf

        rows, length, width = tf.shape(cache)[0] * cache.shape[1], cache.shape[2], cache.shape[3]
        places = tf.range(rows)[:, None] * length + tf.cast(index, "int32")
        flat = tf.tensor_scatter_nd_update(tf.reshape(cache, (-1, width)), places, tf.reshape(new, (-1, width)))
        return tf.ensure_shape(tf.reshape(flat, tf.shape(cache)), cache.shape)
    return keras.ops.slice_update(cache, (0, 0, index, 0), new)


def per_replica(loss: Tensor) -> Tensor:
    """A mean loss as TensorFlow's strategies want it: divided by the replicas, over which gradients are summed.

    Elsewhere, and on one device, the loss itself.

    Example:
        >>> float(per_replica(keras.ops.ones(())))
        1.0
    """
    if name() == "tensorflow":
        import tensorflow as tf

        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return loss / replicas if replicas > 1 else loss
    return loss


def predicted(model: keras.Model, inputs: dict[str, Any]) -> Any:
    """What a model answers to one batch, as NumPy arrays with the batch's rows.

    Where TensorFlow shares trainings among several devices, each of them answers a whole batch, and Keras strings the
    answers together: the first is the answer.

    Arguments:
        model: whose inputs are a dictionary.
        inputs: name -> array, of one number of rows.
    """
    rows = len(next(iter(inputs.values())))
    return keras.tree.map_structure(lambda made: made[:rows], model.predict_on_batch(inputs))


def use_devices(number: int) -> None:
    """Let trainings share every batch among several devices, equal parts each.

    On JAX by `keras.distribution.DataParallel`, where a step computes what one device would, in several places; on
    TensorFlow by `tf.distribute.MirroredStrategy` for the whole process: there each device sees its part of a batch
    alone, so that losses that compare the rows of a batch with each other, and phases of several repetitions, cut
    batches otherwise than one device does. Without a GPU the processor is divided, as a rehearsal. To be called before
    anything is computed.

    Arguments:
        number: of devices; 1 changes nothing.

    Raises:
        ValueError: on torch, or where there are fewer devices.
    """
    if number > 1:
        found = steps().use_devices(number)
        if len(found) < number:
            raise ValueError(f"Expected {number} devices, found {', '.join(found) or 'none that share a batch'}.")
        _sharing["devices"] = number


def check_rows(rows: int) -> None:
    """ValueError unless the devices in use can have equal parts of batches of so many rows.

    Example:
        >>> check_rows(64)
    """
    if rows % _sharing["devices"]:
        raise ValueError(f"Expected batches of a multiple of {_sharing['devices']} rows for as many devices, received "
                         f"{rows} rows.")


def shared(model: keras.Model) -> AbstractContextManager:
    """While it lasts, what is fitted shares its batches among the devices in use.

    Arguments:
        model: compiled and built.
    """
    return steps().shared(model)


@contextmanager
def compact_graphs() -> Iterator[None]:
    """Graphs made inside are for programs that hand over one particle at a time, where every operation has its price.

    They leave out what there is nothing of (decays, arrivals, light), by operations whose results differ in size from
    call to call, and iterate small flows. TensorFlow alone has such operations.
    """
    token = _compact.set(True)
    try:
        yield
    finally:
        _compact.reset(token)


def is_compact() -> bool:
    """Whether graphs are made inside `compact_graphs`."""
    return _compact.get()


def positions(flags: Tensor) -> Tensor:
    """Where flags (N,) are true, (M,) int32, of a size that only the running graph knows: for compact graphs alone."""
    import tensorflow as tf

    return tf.cast(tf.where(flags)[:, 0], tf.int32)


def added_rows(rows: Tensor, index: Tensor, values: Tensor) -> Tensor:
    """Zeros of (rows, ...) with values (M, ...) added at an index (M,): for compact graphs alone."""
    import tensorflow as tf

    empty = tf.zeros(tf.concat([tf.reshape(rows, (1,)), tf.shape(values)[1:]], axis=0), values.dtype)
    return tf.tensor_scatter_nd_add(tf.ensure_shape(empty, (None, *values.shape[1:])), index[:, None], values)
