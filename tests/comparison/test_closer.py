import numpy as np
import pytest

from zdckeras.comparison.closer import CloserLook, pictured
from zdckeras.data.particles import conditions_of
from zdckeras.data.showers import Showers
from zdckeras.metrics.channels import channel_sums
from zdckeras.metrics.classifier import classifier_auc, pixel_auc
from zdckeras.metrics.multivariate import frechet_distance
from zdckeras.metrics.shapes import shapes

ROWS = 400


def draw(seed, rows=ROWS):
    """Spots of a width and a brightness that vary, as 44 x 44 photon counts."""
    rng = np.random.default_rng(seed)
    width, light = rng.uniform(2.0, 4.0, (2, rows, 1, 1))
    x, y = np.indices((44, 44)) - 21.5
    return rng.poisson(light * np.exp(-(x**2 + y**2) / (2 * width**2))).astype("uint16")


@pytest.fixture(scope="module")
def real():
    pdg = np.where(np.arange(ROWS) % 4, 22, 310)
    momentum = np.column_stack([np.zeros((ROWS, 2)), np.random.default_rng(0).uniform(100.0, 2000.0, ROWS)])
    return Showers(conditions_of(pdg, momentum), pdg, {"zn": draw(1)})


def look(real, *generations, **settings):
    closer = CloserLook(real, "zn", draw(2), **settings)
    passed = list(closer.watch(generations))
    return closer, passed


def test_pictured_are_rare_species_too():
    pdg = np.array([22] * 50 + [2112] * 3 + [310])
    assert pictured(pdg, 5).tolist() == [0, 1, 50, 51, 53] and len(pictured(pdg, 99)) == 54


def test_generations_pass_unchanged_and_the_first_is_kept(real):
    first, second = draw(3), draw(4)
    closer, passed = look(real, first, second)
    assert passed[0] is first and passed[1] is second
    assert np.array_equal(closer.sums, channel_sums(first)) and np.array_equal(closer.shapes, shapes(first))
    assert np.array_equal(closer.gallery, first[pictured(real.pdg)])


def test_numbers_are_those_of_the_functions(real):
    first, second = draw(3), draw(4)
    found = look(real, first, second, seed=5, pixels=60)[0].result(0.625)
    area = classifier_auc(real.response, second, real.particles, 5)
    assert found["AUC"] == [(0.625 + area) / 2, pytest.approx(abs(area - 0.625) / np.sqrt(2))]
    values = [frechet_distance(shapes(real.response), shapes(made), 5) for made in (first, second)]
    assert found["FPD"] == [np.mean(values), pytest.approx(np.std(values, ddof=1))]
    assert found["pixels"] == pixel_auc(real.response, first, 5, 60)
    assert all(abs(found["diversity"][name] - 1) < 0.05 for name in ("gamma", "K0S", "all"))
    assert np.isnan(found["diversity"]["Lambda"])


def test_one_answer_for_all_is_not_diverse(real):
    same = np.broadcast_to(draw(3)[:1], (ROWS, 44, 44))
    found = look(real, same, same)[0].result(1.0)
    assert found["diversity"]["all"] == 0.0 and found["coverage"][0] < 0.05 and found["pixels"] is None


def test_one_generation_says_nothing_of_diversity(real):
    found = look(real, draw(3))[0].result(0.5)
    assert found["diversity"] == {} and found["density"][1] == 0.0 and abs(found["density"][0] - 1) < 0.15
