import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("bench_export")


def test_a_row_of_the_table(tool):
    row = {"model": "GAN, sums first", "kind": "GanGenerator", "weights": 12345, "equal": 1.0, "sums": 1.0,
           "moved": 2e-5, "largest": 1.0, "ONNX Runtime MB": 0.5, "SavedModel MB": 0.7, "Keras MB": float("nan"),
           "ONNX Runtime 1": 0.25, "SavedModel 1": 1.25, "Keras 1": 12.5}
    head, _, line = tool.table([row], [1]).splitlines()
    assert head.split(" | ")[-3:] == ["ONNX Runtime, 1", "SavedModel, 1", "Keras, 1 |"]
    assert line == "| GAN, sums first | 12,345 | 0.50 | 1.000 | 1.000 | 2.0e-05 | 1 | 0.25 | 1.25 | 12.5 |"
    assert "| zn (GanGenerator) |" in tool.table([{**row, "model": "zn"}], [1])


def test_slow_calls_are_few(tool, monkeypatch):
    """Each takes 9 s: after the third there are no more, and the first does not count."""
    asked = []
    monkeypatch.setattr(tool, "timed", lambda run: (asked.append(run()), 9.0, 9.0 + len(asked)))
    assert tool.median(lambda noise, condition: noise, [(k, None) for k in range(9)], 100) == pytest.approx(1e3 * 11.5)
    assert asked == [0, 1, 2]


@pytest.mark.parametrize(("name", "width", "shape"), [
    ("GAN as published, ViT", 10, (44, 44)), ("modular, latent, 1 step", 10, (44, 44)),
    ("VAE, FoCal-H", 10, None)])
def test_families_answer_with_responses(tool, load_tool, name, width, shape):
    families = load_tool("export_families")
    assert name in families.FAMILIES and name in tool.FAMILIES
    generator = families.build(name)
    noise, particles = tool.batches_of(generator, 2, 1, np.random.default_rng(0))[0]
    made = np.asarray(generator.predict_on_batch({"noise": noise, "conditions": particles}))
    assert noise.shape == (2, generator.noise_width) and generator.noise_width == width
    assert made.shape == (2, *(shape or generator.detectors[0].shape)) and made.min() >= 0
