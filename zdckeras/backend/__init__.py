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
    """Gradients and training steps of the running backend, one module for each with the same four names.

    value_and_grad(loss, variables) -> (value, remarks, gradients): `loss()` gives (scalar, remarks), remarks being
    any structure of tensors; variables that do not enter get zeros. What the loss assigns to other variables stays.

    grad(function, x): gradient of sum(function(x)) with the shape of x, itself differentiable (gradient penalty).

    apply(optimizer, gradients, variables): one update, whatever the optimizer (loss scaling branches).

    Steps: base class of models that define `train_on(data)` and `test_on(data)`.

    Example:
        >>> x = keras.ops.convert_to_tensor([1.0, 2.0])
        >>> keras.ops.convert_to_numpy(steps().grad(lambda x: x**3, x)).tolist()
        [3.0, 12.0]
    """
    return import_module(f"zdckeras.backend.{name()}_steps")
