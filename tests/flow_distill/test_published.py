"""The flow of the neutron study: its size, its code there and back, and its generator."""

import keras
import numpy as np
import pytest
from keras import ops

import zdckeras as zdc
from zdckeras.data.detectors import get_detector
from zdckeras.flow_distill.distiller import Distiller
from zdckeras.flow_distill.published import BOUND, PublishedFlow, PublishedFlowGenerator
from zdckeras.flow_distill.sums import PhotonSums
from zdckeras.flows.bijections import Permutation
from zdckeras.training.batches import Batches

numpy = ops.convert_to_numpy
SMALL = dict(steps=2, hidden=(8,), bins=3)


@pytest.fixture
def published(showers):
    return PublishedFlow.fit_scales("ecal", showers.particles, showers.response, noise=0.5, **SMALL)


def batch_of(showers, rows=8):
    rng = np.random.default_rng(0)
    return {"conditions": showers.particles[:rows].astype("float32"),
            "responses": showers.response[:rows].astype("float32"), "u_cells": rng.random((rows, 900), "float32")}


def test_weights_are_the_studys():
    """287 million: four steps, three layers of 1,452, 23 numbers a cell, the context led into the first layer."""
    cells, hidden, context, numbers = get_detector("zn").cells, 1452, 10, 3 * 8 - 1

    def weights(width):
        first, inner, last = (cells + context + 1) * width, 2 * (width + 1) * width, (width + 1) * cells * numbers
        return first + inner + last

    flow = PublishedFlow("zn", [0.0] * 10, [1.0] * 10, steps=2, hidden=(2,) * 3)
    assert flow.count_params() == 2 * weights(2)
    assert flow.operations() == flow.count_params() - 2 * (3 * 2 + cells * numbers)  # all but what is added
    assert abs(4 * (weights(hidden) + hidden) - 287e6) < 0.5e6  # the study's layer for the context has a bias


def test_orders_between_steps_alternate():
    """Reversed next to the data and to the noise, random between, in teacher and student alike."""
    flow = PublishedFlow("zn", [0.0] * 10, [1.0] * 10, hidden=(2,))
    for one in (flow, flow.student()):
        orders = [part.order for part in one.flow.bijection.bijections if isinstance(part, Permutation)]
        backwards = [np.array_equal(order, np.arange(1936)[::-1]) for order in orders]
        assert backwards == [True, False, True] and np.array_equal(np.sort(orders[1]), np.arange(1936))
        assert (np.abs(np.diff(orders[1])) > 1).mean() > 0.99  # neighbours are far apart


def test_code_lies_within_the_splines_and_comes_back(published, showers):
    batch = batch_of(showers)
    context = published.context(batch["conditions"], published.sums(batch["responses"]))
    y, log_det = published.encode(batch["responses"], batch["u_cells"], batch["conditions"], context)
    assert np.abs(numpy(y)).max() < BOUND and not numpy(log_det).any()
    number = batch["responses"].sum(axis=(1, 2))[:, None]
    wrong = np.abs(numpy(published.photons(y, number)) - batch["responses"].reshape(8, -1))
    # the true sum of the noise is not known when decoding, only its mean: some bright cells are off by a photon
    assert wrong.max() <= 1.0 and (wrong > 0).mean() < 0.01


def test_context_is_the_particle_and_the_photon_number_alone(published, showers):
    batch = batch_of(showers, 4)
    sums = numpy(published.sums(batch["responses"]))
    context = numpy(published.context(batch["conditions"], sums))
    expected = np.column_stack([batch["conditions"], sums.sum(axis=1)])
    np.testing.assert_allclose(context * published.scale + published.mean, expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(context, numpy(published.context(batch["conditions"], sums[:, ::-1].copy())))


def test_training_of_teacher_and_student(published, showers, eager):
    noise = {"u_cells": (900,)}
    data = {"conditions": showers.particles, "responses": showers.response}
    published.compile(keras.optimizers.Adam(3e-3), run_eagerly=eager)
    history = published.fit(Batches(data, 16, 0, noise), epochs=3, verbose=0).history["loss"]
    assert history[-1] < history[0]
    distiller = Distiller(published, published.student(seed=5))
    data |= {"weight": np.ones(len(showers)), "channels": np.ones(len(showers))}
    before = [numpy(weight) for weight in published.weights]
    distiller.compile(keras.optimizers.Adam(3e-3), run_eagerly=eager)
    taught = distiller.fit(Batches(data, 16, 0, noise, {"z": (900,)}), epochs=3, verbose=0).history["loss"]
    assert taught[-1] < taught[0]
    assert all(np.array_equal(a, numpy(b)) for a, b in zip(before, published.weights, strict=True))


@pytest.fixture
def number(showers):
    return PhotonSums.fit_scales("ecal", showers.particles, showers.response.sum(axis=(1, 2))[:, None], steps=1,
                                 hidden=(8,), bins=4, embedding=(8,))


def test_operations_by_hand(number, published):
    """Of splines with 3 bins over cells in two steps, and of one with 4 bins, told what a network reads, over N."""
    cells = 2 * (900 * 8 + 10 * 8 + 8 * 900 * 8)
    first = number.features.width * 8 + (1 * 8 + 8 * 8) + (8 * 11 + 8 * 11)  # both layers are told
    assert PublishedFlowGenerator(number, published).operations() == cells + first


@pytest.mark.parametrize("inverse", [False, True])
def test_generator_is_saved_and_repeats(number, published, showers, inverse, tmp_path):
    generator = PublishedFlowGenerator(number, published.student() if inverse else published)
    generator.jit_compile = keras.backend.backend() == "jax"
    first = generator.sample(showers.particles[:4], seed=3, batch_size=4)
    generator.save(tmp_path / "model.keras")
    again = zdc.load_model(tmp_path / "model.keras")
    assert isinstance(again, PublishedFlowGenerator) and np.array_equal(again.low, generator.low)
    assert np.array_equal(again.sample(showers.particles[:4], seed=3, batch_size=4), first)
    assert first.shape == (4, 30, 30) and first.any() and (first != generator.sample(showers.particles[:4], 4)).any()


def test_parts_that_do_not_belong_together(published, showers, sums_model):
    with pytest.raises(ValueError, match="model of the photon number, received one of 5 sums"):
        PublishedFlowGenerator(sums_model, published)
    with pytest.raises(ValueError, match="nine conditions and the photon number"):
        PublishedFlow("ecal", [0.0] * 9, [1.0] * 9, **SMALL)
