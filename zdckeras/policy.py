"""The precision that layers are made in: their own, not that of the process that makes or loads them."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras


@contextmanager
def made_in(policy: str | keras.DTypePolicy = "float32") -> Iterator[None]:
    """Layers made inside have a dtype policy, whatever the global one is; a function may be decorated with it.

    Arguments:
        policy: of the layers.

    Example:
        >>> with made_in("mixed_bfloat16"):
        ...     layer = keras.layers.Dense(1)
        >>> layer.compute_dtype, keras.config.dtype_policy().name
        ('bfloat16', 'float32')
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
