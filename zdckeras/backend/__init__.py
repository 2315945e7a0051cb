"""The only door to TensorFlow, JAX and torch: everything else in the package is plain Keras 3.

The backend is chosen by the environment variable KERAS_BACKEND before the first import.
"""

from importlib import import_module
from typing import Any

import keras

Tensor = Any  # in hints: a tensor of the running backend, or a NumPy array in its place


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
    """Gradients and training steps of the running backend, one module for each with the same five names.

    value_and_grad(loss, variables) -> (value, remarks, gradients): `loss()` gives (scalar, remarks), remarks being
    any structure of tensors; variables that do not enter get zeros. What the loss assigns to other variables stays.

    grad(function, x): gradient of sum(function(x)) with the shape of x, itself differentiable (gradient penalty).

    apply(optimizer, gradients, variables): one update, whatever the optimizer (loss scaling branches).

    matmul(a, b): see `exact_matmul`.

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
        a, b: (..., n, k) and (..., k, m), float32; gradients may be rounded.

    Returns:
        (..., n, m).

    Example:
        >>> a = keras.ops.convert_to_tensor([[4099.0, 1.0]])
        >>> keras.ops.convert_to_numpy(exact_matmul(a, keras.ops.ones((2, 1)))).tolist()
        [[4100.0]]
    """
    return steps().matmul(a, b)


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
