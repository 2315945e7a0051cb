"""Several devices that share every batch of a training: on JAX while it lasts, on TensorFlow from the beginning."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import keras

from zdckeras import backend

_used = []  # names of the devices that share batches; none, or more than one


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
    if number == 1:
        return
    name = backend.name()
    if name == "torch":
        raise ValueError("Several devices need KERAS_BACKEND=jax or tensorflow, received torch.")
    found = _jax_devices(number) if name == "jax" else _tensorflow_devices(number)
    if len(found) < number:
        raise ValueError(f"Expected {number} devices, found {', '.join(found)}.")
    _used[:] = found[:number]
    if name == "tensorflow":
        import tensorflow as tf

        reduction = tf.distribute.ReductionToOneDevice() if found[0].startswith("CPU") else None
        tf.distribute.experimental_set_strategy(tf.distribute.MirroredStrategy(_used, reduction))


@contextmanager
def shared(model: keras.Model) -> Iterator[None]:
    """While it lasts, what is fitted shares its batches among the devices in use.

    Arguments:
        model: compiled and built, with its optimizer.
    """
    if len(_used) < 2 or backend.name() != "jax":
        yield
        return
    import jax

    distribution = keras.distribution.DataParallel(devices=_used, auto_shard_dataset=False)
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    _place(model, jax.sharding.NamedSharding(distribution.device_mesh.backend_mesh, jax.sharding.PartitionSpec()))
    try:
        with distribution.scope():
            yield
    finally:
        _place(model, jax.sharding.SingleDeviceSharding(jax.devices()[0]))


def _place(model, sharding):
    """Put all values of a model and its optimizer where a sharding of JAX says; drop functions compiled before."""
    import jax

    every = {id(v): v for v in (*model.variables, *model.optimizer.variables, *model.metrics_variables)}
    for variable in every.values():
        variable.assign(jax.device_put(variable.value, sharding))
    model.train_function = model.test_function = model.predict_function = None


def _jax_devices(number):
    import jax

    with suppress(RuntimeError):  # too late once JAX has looked for devices
        jax.config.update("jax_num_cpu_devices", number)
    return keras.distribution.list_devices()


def _tensorflow_devices(number):
    import tensorflow as tf

    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    if kind == "CPU":
        with suppress(RuntimeError):  # too late once TensorFlow has looked for devices
            tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0],
                                                       [tf.config.LogicalDeviceConfiguration()] * number)
    return [f"{kind}:{k}" for k in range(len(tf.config.list_logical_devices(kind)))]
