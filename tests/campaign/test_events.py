import gzip

import numpy as np
import pytest

from zdckeras.campaign.events import particles_of
from zdckeras.data.particles import CONDITIONS, conditions_of

PDG = np.array([2112, 22, 2212])
MOMENTUM = np.array([[0.1, 0.0, 2000.0], [0.0, -0.02, -300.0], [0.0, 0.0, 2680.0]])
VERTEX = np.array([[0.01, -0.02, 3.0]] * 3)
WHOLE = conditions_of(PDG, MOMENTUM, VERTEX)
EVENT = """HepMC::Version 3.02.06
HepMC::Asciiv3-START_EVENT_LISTING
E 0 1 5
U {units}
P 1 0 2212 0.0 0.0 {p} {p} 0.938 4
V -1 0 [1] @ {v} 0.0
P 2 -1 2112 {a} 2e3 0.9396 1
P 3 -1 22 {b} 3e2 0.0 1
P 4 -1 2212 {c} 2.7e3 0.9383 1
P 5 -1 12 1.0 0.0 5.0 5.1 0.0 1
HepMC::Asciiv3-END_EVENT_LISTING
"""


def table(path, names, columns):
    lines = [",".join(names), *(",".join(repr(float(value)) for value in row) for row in zip(*columns, strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_tables_of_conditions_or_of_momenta(tmp_path):
    full = table(tmp_path / "full.csv", ["pdg", *CONDITIONS], [PDG, *WHOLE.T])
    bare = table(tmp_path / "bare.csv", ["pz", "", "px", "py", "", "pdg", "mass"],
                 [MOMENTUM[:, 2], PDG, MOMENTUM[:, 0], MOMENTUM[:, 1], PDG, PDG, WHOLE[:, 7]])
    (tmp_path / "bare.csv").write_text((tmp_path / "bare.csv").read_text().replace("22.0,22.0,0.0", "a word,22.0,0.0"))
    placed = table(tmp_path / "placed.csv", ["pdg", "px", "py", "pz", "vx", "vy", "vz"], [PDG, *MOMENTUM.T, *VERTEX.T])
    without = table(tmp_path / "without.csv", CONDITIONS, WHOLE.T)
    names = ["PDG", "Px", "Py", "Pz", "Vx", "Vy", "Vz"]
    capitals = table(tmp_path / "capitals.CSV", names, [PDG, *MOMENTUM.T, *VERTEX.T])
    for path, expected in ((full, WHOLE), (capitals, WHOLE), (bare, conditions_of(PDG, MOMENTUM)), (placed, WHOLE),
                           (without, WHOLE)):
        conditions, pdg = particles_of(path)
        np.testing.assert_allclose(conditions, expected, rtol=1e-12)
        assert pdg.tolist() == PDG.tolist()


def test_a_table_without_ids_does_not_tell_kaons(tmp_path):
    kaons = conditions_of(np.array([130, 22, 310]), MOMENTUM)
    with pytest.warns(UserWarning, match="K0S from K0L: 2 of 3 rows get id 0"):
        conditions, pdg = particles_of(table(tmp_path / "without.csv", CONDITIONS, kaons.T))
    np.testing.assert_allclose(conditions, kaons)
    assert pdg.tolist() == [0, 22, 0]
    told = table(tmp_path / "told.csv", ["pdg", *CONDITIONS], [np.array([130, 22, 310]), *kaons.T])
    assert particles_of(told)[1].tolist() == [130, 22, 310]


def test_empty_lines_of_a_table_are_skipped(tmp_path):
    (tmp_path / "a.csv").write_text("\npdg,px,py,pz\n22,0,0,3\n\n2112,0,0,900\n  \n\r\n")
    assert particles_of(tmp_path / "a.csv")[1].tolist() == [22, 2112]


@pytest.mark.parametrize(("text", "message"), [
    ("", "expected columns energy"),
    ("pdg,px,py,pz\n\n22,0,0\n", "line 3: expected 4 values, received 3"), ("pdg,px,py\n1,2,3\n", "pz missing"),
    ("pdg,px,py,pz\n22,0,0\n", "line 2: expected 4"),
    ("pdg,px,py,pz\n22,0,0,many\n", "expected numbers below the header"), ("pdg,px,py,pz\n", "received 0 with"),
    ("pdg,px,py,pz,vx,vy\n22,0,0,3,1,1\n", "whole vertex vx, vy, vz or nothing of it, received 2"),
    ("pdg,px,py,pz,pz\n22,0,0,3,4\n", "different names, received pz more than once"),
    ("pdg,px,py,pz\n2112.7,0,0,3\n", r"whole numbers as PDG ids, received \[2112.7\]"),
    ("pdg,px,py,pz\n1010010030,0,0,3\n", "Unknown PDG id"), ("pdg,px,py,pz\n99,0,0,3\n", "Unknown PDG id"),
    ("pdg,px,py,pz\n22,0,0,nan\n", "finite numbers"),
    ("pdg,energy,px,py,pz\n22,5,0,0,5000\n", r"E.2 = p.2 \+ m.2, received 1 of 1 .* energy 5, px 0, py 0, pz 5000"),
    ("pdg,mass,px,py,pz\n2112,0.9396,0,0,900\n", "masses look like GeV, expected MeV")])
def test_wrong_tables_are_one_line(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        particles_of(tmp_path / "a.csv")
    assert "a.csv" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("units", ["GEV CM", "MEV MM"])
def test_events_in_either_units(tmp_path, units):
    pytest.importorskip("pyhepmc")
    energy, length = (1.0, 1.0) if units == "GEV CM" else (1000.0, 10.0)
    words = {name: " ".join(repr(float(energy * p)) for p in row) for name, row in zip("abc", MOMENTUM, strict=True)}
    text = EVENT.format(units=units, p=2680.0 * energy, v=" ".join(repr(float(length * x)) for x in VERTEX[0]), **words)
    (tmp_path / "events.hepmc3").write_text(text)
    (tmp_path / "events.hepmc3.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("events.hepmc3", "events.hepmc3.gz"):
        conditions, pdg = particles_of(tmp_path / name)
        np.testing.assert_allclose(conditions, WHOLE, rtol=1e-6, atol=1e-9)
        assert pdg.tolist() == PDG.tolist()


def test_nuclei_that_the_table_lacks_are_those_of_the_file(tmp_path):
    """An excited fragment of lead among the three particles: its energy and mass, and the charge that its id says."""
    pytest.importorskip("pyhepmc")
    words = {name: " ".join(repr(float(p)) for p in row) for name, row in zip("abc", MOMENTUM, strict=True)}
    text = EVENT.format(units="GEV CM", p=2680.0, v=" ".join(map(repr, VERTEX[0].tolist())), **words)
    mass, pz = 193.8, 5e5
    fragment = f"P 6 -1 1000822081 0.0 0.0 {pz} {float(np.hypot(pz, mass))!r} {mass} 1\nHepMC::Asciiv3-END"
    (tmp_path / "EVENTS.HEPMC3").write_text(text.replace("HepMC::Asciiv3-END", fragment).replace("E 0 1 5", "E 0 1 6"))
    with pytest.warns(UserWarning, match="lacks, kept as species of their own: 1000822081"):
        conditions, pdg = particles_of(tmp_path / "EVENTS.HEPMC3")
    assert pdg.tolist() == [*PDG, 1000822081]
    np.testing.assert_allclose(conditions[:3], WHOLE, rtol=1e-6, atol=1e-9)
    expected = [np.hypot(pz, mass), *VERTEX[0], 0.0, 0.0, pz, 1e3 * mass, 82.0]
    np.testing.assert_allclose(conditions[3], expected, rtol=1e-4)


@pytest.mark.parametrize(("change", "message"), [
    (lambda lines: lines[:-1], "received one with 3 events of which 3 can be read and no such line"),
    (lambda lines: lines[: len(lines) // 2], "and no such line"),
    (lambda lines: [line for k, line in enumerate(lines) if k != 14], "3 events of which [01] can be read$")])
def test_files_that_are_cut_or_damaged_are_not_answered_in_part(tmp_path, change, message):
    pytest.importorskip("pyhepmc")
    words = {name: " ".join(repr(float(p)) for p in row) for name, row in zip("abc", MOMENTUM, strict=True)}
    lines = EVENT.format(units="GEV CM", p=2680.0, v="0 0 0", **words).splitlines()
    head, event, tail = lines[:2], lines[2:-1], lines[-1:]
    path = tmp_path / "a.hepmc3"
    path.write_text("\n".join([*head, *event, *event, *event, *tail]) + "\n")
    assert len(particles_of(path)[0]) == 9
    path.write_text("\n".join(change([*head, *event, *event, *event, *tail])) + "\n")
    with pytest.raises(ValueError, match=message):
        particles_of(path)


def test_events_without_particles_and_without_the_package(tmp_path, monkeypatch):
    (tmp_path / "a.hepmc3").write_text("HepMC::Version 3.02.06\n")
    if pytest.importorskip("pyhepmc"):
        with pytest.raises(ValueError, match="a.hepmc3: cannot be read as particles: expected events"):
            particles_of(tmp_path / "a.hepmc3")
    monkeypatch.setattr("zdckeras.campaign.events.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="read by pyhepmc, which is not installed"):
        particles_of(tmp_path / "a.hepmc3")
