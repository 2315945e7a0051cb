"""A generator as a TensorFlow SavedModel: graphs of plain TensorFlow operations, without Keras or this package."""

import numpy as np

from zdckeras import backend
from zdckeras.data.particles import CONDITION_COUNT

MOST = 2.0**31  # photons that an int32 cannot hold
COMPILED = "compiled_"  # and the batch size: name of a signature


def write_saved_model(generator, path, compiled=(), ids=False):
    """Write the signatures of a generator; see `zdckeras.export.saved_model.export_saved_model`.

    Runs under the TensorFlow backend only. The graphs hold the generator's operations for any batch size, and its
    weights as variables. Inputs and answers are checked by operations of the graph.

    Arguments:
        generator: `Sampler`.
        path: folder to write.
        compiled: batch sizes that get a signature of their own, compiled by XLA.
        ids: whether all signatures take pdg (B,), too.
    """
    import tensorflow as tf

    width = generator.noise_width
    condition = tf.TensorSpec((None, CONDITION_COUNT), tf.float32, name="condition")
    noise = tf.TensorSpec((None, width), tf.float32, name="noise")
    more = [tf.TensorSpec((None,), tf.int32, name="pdg")] if ids else []

    def finite(values, message):
        return tf.debugging.check_numerics(values, message)

    def rows_agree(condition, other, name):
        tf.debugging.assert_equal(tf.shape(other)[0], tf.shape(condition)[0],
                                  f"{name}: expected one row for each row of condition")

    def answer(condition, noise, pdg, generate=generator.generate):
        told = [] if pdg is None else [pdg]
        for codes in told:
            rows_agree(condition, codes, "pdg")
        energy = tf.where(condition[:, :1] > 0.0, condition[:, :1], np.nan)
        condition = finite(tf.concat([energy, condition[:, 1:]], axis=1),
                           "condition: expected finite numbers, energies above 0 GeV")
        noise, rows = finite(noise, "noise: expected finite numbers"), tf.shape(condition)[0]
        if condition.shape[0] is None:
            empty = tf.cast(rows == 0, tf.int32)  # loops over the rows of flows want at least one
            noise = tf.concat([noise, tf.zeros((empty, width))], axis=0)
            condition = tf.concat([condition, tf.ones((empty, CONDITION_COUNT))], axis=0)
            told = [tf.concat([codes, tf.zeros((empty,), tf.int32)], axis=0) for codes in told]
        made = generate(noise, condition, *told)
        several = len(generator.detectors) > 1
        responses = {}
        for detector, response in zip(generator.detectors, made if several else (made,), strict=True):
            photons, kind = detector.unit == "photons", "photons" if detector.unit == "photons" else "energy"
            response = tf.cast(response[:rows], tf.float32)
            response = tf.where((response >= 0.0) & (response < MOST), response, np.nan)
            response = finite(response, f"{kind}: expected finite numbers of at least 0")
            responses[f"{kind}_{detector.name}" if several else kind] = tf.cast(
                response, tf.int32 if photons else tf.float32)
        return responses

    @tf.function(autograph=False, input_signature=[condition, noise, *more])
    def serving_default(condition, noise, pdg=None):
        rows_agree(condition, noise, "noise")
        return answer(condition, noise, pdg)

    @tf.function(autograph=False, input_signature=[condition, tf.TensorSpec((2,), tf.int32, name="seed"), *more])
    def sample(condition, seed, pdg=None):
        return answer(condition, tf.random.stateless_normal((tf.shape(condition)[0], width), seed), pdg)

    def row_noise(seed):
        return tf.random.stateless_normal((width,), tf.stack([seed, 0]))

    @tf.function(autograph=False, input_signature=[condition, tf.TensorSpec((None,), tf.int32, name="seed"), *more])
    def sample_rows(condition, seed, pdg=None):
        rows_agree(condition, seed, "seed")
        return answer(condition, tf.map_fn(row_noise, seed, fn_output_signature=tf.float32), pdg)

    def for_batch(size):
        """The signature of one batch size: XLA compiles the generator when it is first called."""
        generate = tf.function(generator.generate, autograph=False, jit_compile=True)
        sizes = [tf.TensorSpec((size, columns), tf.float32, name=name)
                 for name, columns in (("condition", CONDITION_COUNT), ("noise", width))]
        sizes += [tf.TensorSpec((size,), spec.dtype, spec.name) for spec in more]
        return tf.function(lambda condition, noise, pdg=None: answer(condition, noise, pdg, generate), autograph=False,
                           input_signature=sizes)

    module = tf.Module()
    module.weights = [variable.value for variable in generator.variables]
    signatures = {f"{COMPILED}{size}": for_batch(size) for size in compiled}
    for function in signatures.values():
        function.get_concrete_function()
    signatures |= {"serving_default": serving_default, "sample": sample, "sample_rows": sample_rows}
    for name, function in signatures.items():
        setattr(module, name, function)
    with backend.compact_graphs():
        tf.saved_model.save(module, str(path), signatures=signatures)


def write_records(path, records):
    """Write bytes as a TFRecord file."""
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as file:
        for record in records:
            file.write(record)


def open_saved_model(folder):
    """The signature `serving_default` of a SavedModel as a function of NumPy noise, conditions and PDG ids.

    Arguments:
        folder: of the version.

    Returns:
        The function, which gives {output: array} and takes ids of those models that are told none, too; the width of
        the noise; {output: (nx, ny)}; and whether it takes ids.

    Raises:
        ValueError: if it has no such signature, or one with other inputs.
    """
    import tensorflow as tf

    model = tf.saved_model.load(str(folder))
    signature = model.signatures.get("serving_default")
    inputs = signature.structured_input_signature[1] if signature is not None else {}
    if set(inputs) - {"pdg"} != {"condition", "noise"}:
        raise ValueError(f"{folder}: expected a signature serving_default of condition and noise, received inputs "
                         f"{', '.join(inputs) or 'none'}.")

    def call(noise, conditions, pdg, model=model):  # the signature lives as long as its model
        told = {"pdg": tf.constant(pdg, tf.int32)} if "pdg" in inputs else {}
        made = signature(noise=tf.constant(noise), condition=tf.constant(conditions), **told)
        return {name: values.numpy() for name, values in made.items()}

    outputs = {name: tuple(spec.shape[1:]) for name, spec in signature.structured_outputs.items()}
    return call, inputs["noise"].shape[1], outputs, "pdg" in inputs
