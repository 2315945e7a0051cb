"""What the tables of check_showers say."""

import numpy as np


def test_halves_of_the_library_with_errors_over_disjoint_test_sets(load_tool, capsys, monkeypatch):
    """Rows, counts, means and errors of two sets, of areas and distances that are told by the showers they are of."""
    tool = load_tool("check_showers")
    monkeypatch.setattr(tool, "classifier_auc", lambda real, made, conditions: conditions[:, 0].mean())
    monkeypatch.setattr(tool, "pixel_auc", lambda real, made: 0.5)
    tool.compare_halves("zn", 60, 2)
    lines = {line[:12].strip(): line[12:].split() for line in capsys.readouterr().out.splitlines()}
    energies = tool.load("zn", "test", 120).particles[:, 0].reshape(2, 60).mean(axis=1)
    error = np.abs(np.diff(energies))[0] / 2
    assert lines["all"][:6] == ["60", "x", "2", f"{energies.mean():.3f}", "±", f"{error:.3f}"]
    assert lines["all, pixels"][3:6] == ["0.500", "±", "0.000"] and "gamma" in lines and "Sigma+" not in lines
