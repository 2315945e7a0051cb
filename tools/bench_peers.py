"""Training steps of a `ResponseGAN` without our engine: gradients, Adam, averages and the loop by hand.

The forward functions are the model's own; everything around them is what one would write in plain TensorFlow or plain
JAX for this one model. So the difference to `fit` is the cost of phases, Keras optimizers, metrics, callbacks and data
handling. Both take batches of NumPy arrays, as `fit` does.
"""

ADAM = {"learning_rate": 2e-4, "beta_1": 0.5, "beta_2": 0.99}
EPSILON = 1e-7


def by_tensorflow(gan, jit_compile):
    """batches -> losses {phase_term: number} of the last one, on the model's own `tf.Variable`s."""
    import tensorflow as tf

    rate, beta_1, beta_2 = ADAM.values()
    phases = gan.phases()
    weights = {name: [v.value for v in phase.variables] for name, phase in phases.items()}
    moments = {name: [(tf.Variable(tf.zeros_like(w)), tf.Variable(tf.zeros_like(w))) for w in values]
               for name, values in weights.items()}
    twins = [(a.value, b.value) for pair in gan.averages() for a, b in zip(*(p.variables for p in pair), strict=True)]
    time, compiled = tf.Variable(0.0), None

    def step(batch):
        logs = {}
        time.assign_add(1.0)
        scale = rate * tf.sqrt(1.0 - beta_2**time) / (1.0 - beta_1**time)
        for name, phase in phases.items():
            with tf.GradientTape() as tape:
                terms = phase.loss(batch, True)
                loss = sum(terms.values())
            gradients = tape.gradient(loss, weights[name])
            for w, g, (m, v) in zip(weights[name], gradients, moments[name], strict=True):
                m.assign_add((g - m) * (1.0 - beta_1))
                v.assign_add((g * g - v) * (1.0 - beta_2))
                w.assign_sub(scale * m / (tf.sqrt(v) + EPSILON))
            logs |= {f"{name}_{term}": value for term, value in terms.items()}
        momentum = tf.minimum(gan.momentum, (1.0 + time) / (10.0 + time))
        for w, twin in twins:
            twin.assign_add((1.0 - momentum) * (w - twin))
        return logs

    def run(batches):
        nonlocal compiled
        if compiled is None:  # for any number of rows, as `fit` does: the same graph, so the same rounding
            signature = {name: tf.TensorSpec((None, *a.shape[1:]), tf.float32) for name, a in batches[0].items()}
            compiled = tf.function(step, input_signature=[signature], jit_compile=jit_compile)
        for batch in batches:
            logs = compiled(batch)
        return {name: float(value) for name, value in logs.items()}

    return run


def by_jax(gan, jit_compile):
    """batches -> losses {phase_term: number} of the last one; the state is a tuple that the step hands on."""
    from functools import partial

    import jax
    import jax.numpy as jnp
    import keras

    rate, beta_1, beta_2 = ADAM.values()
    phases = gan.phases()
    variables = {name: phase.variables for name, phase in phases.items()}
    places = {id(v): (name, k) for name, values in variables.items() for k, v in enumerate(values)}
    twins = [(places[id(v)], twin) for pair in gan.averages()
             for v, twin in zip(*(p.variables for p in pair), strict=True) if id(v) in places]

    def loss(values, name, weights, batch):
        pairs = [pair for other in variables
                 for pair in zip(variables[other], values if other == name else weights[other], strict=True)]
        with keras.StatelessScope(pairs):
            terms = phases[name].loss(batch, True)
        return sum(terms.values()), terms

    @partial(jax.jit, donate_argnums=0)
    def step(state, batch):
        time, weights, moments, averages = state
        time, weights, moments, logs = time + 1.0, dict(weights), dict(moments), {}
        scale = rate * jnp.sqrt(1.0 - beta_2**time) / (1.0 - beta_1**time)
        for name in phases:
            gradients, terms = jax.grad(loss, has_aux=True)(weights[name], name, weights, batch)
            moments[name] = [(m + (g - m) * (1.0 - beta_1), v + (g * g - v) * (1.0 - beta_2))
                             for g, (m, v) in zip(gradients, moments[name], strict=True)]
            weights[name] = [w - scale * m / (jnp.sqrt(v) + EPSILON)
                             for w, (m, v) in zip(weights[name], moments[name], strict=True)]
            logs |= {f"{name}_{term}": value for term, value in terms.items()}
        momentum = jnp.minimum(gan.momentum, (1.0 + time) / (10.0 + time))
        averages = [a + (1.0 - momentum) * (weights[name][k] - a)
                    for a, ((name, k), _) in zip(averages, twins, strict=True)]
        return (time, weights, moments, averages), logs

    weights = {name: [jnp.copy(v.value) for v in values] for name, values in variables.items()}
    moments = {name: [(jnp.zeros_like(w), jnp.zeros_like(w)) for w in values] for name, values in weights.items()}
    state = (jnp.zeros(()), weights, moments, [jnp.copy(twin.value) for _, twin in twins])

    def run(batches):
        nonlocal state
        for batch in batches:
            state, logs = step(state, batch)
        return {name: float(value) for name, value in logs.items()}

    return run


PEERS = {"tensorflow": by_tensorflow, "jax": by_jax}
