"""A generator as a TensorFlow SavedModel: graphs of plain TensorFlow operations, without Keras or this package."""

from zdckeras.data.particles import CONDITION_COUNT


def write_saved_model(generator, path):
    """Write the three signatures of a generator; see `zdckeras.export.saved_model.export_saved_model`.

    Runs under the TensorFlow backend only. The graphs hold the generator's operations for any batch size, and its
    weights as variables.

    Arguments:
        generator: `Sampler`.
        path: folder to write.
    """
    import tensorflow as tf

    width = generator.noise_width
    condition = tf.TensorSpec((None, CONDITION_COUNT), tf.float32, name="condition")
    noise = tf.TensorSpec((None, width), tf.float32, name="noise")

    @tf.function(autograph=False, input_signature=[condition, noise])
    def serving_default(condition, noise):
        condition = tf.debugging.check_numerics(condition, "condition: expected finite numbers")
        made = generator.generate(noise, condition)
        several = len(generator.detectors) > 1
        return {("photons" if detector.unit == "photons" else "energy") + (f"_{detector.name}" if several else ""):
                tf.cast(response, tf.int32 if detector.unit == "photons" else tf.float32)
                for detector, response in zip(generator.detectors, made if several else (made,), strict=True)}

    @tf.function(autograph=False, input_signature=[condition, tf.TensorSpec((2,), tf.int32, name="seed")])
    def sample(condition, seed):
        return serving_default(condition, tf.random.stateless_normal((tf.shape(condition)[0], width), seed))

    def row_noise(seed):
        return tf.random.stateless_normal((width,), tf.stack([seed, 0]))

    @tf.function(autograph=False, input_signature=[condition, tf.TensorSpec((None,), tf.int32, name="seed")])
    def sample_rows(condition, seed):
        return serving_default(condition, tf.map_fn(row_noise, seed, fn_output_signature=tf.float32))

    module = tf.Module()
    module.weights = [variable.value for variable in generator.variables]
    signatures = {"serving_default": serving_default, "sample": sample, "sample_rows": sample_rows}
    for name, function in signatures.items():
        setattr(module, name, function)
    tf.saved_model.save(module, str(path), signatures=signatures)
