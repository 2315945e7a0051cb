"""The only door to TensorFlow, JAX and torch: everything else in the package is plain Keras 3.

The backend is chosen by the environment variable KERAS_BACKEND before the first import.
"""

import keras


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
