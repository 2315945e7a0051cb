import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import zdckeras as zdc
from tests.comparison.conftest import Rolled
from zdckeras.comparison.closer import pictured
from zdckeras.comparison.page import PARTS, embedded, page_data, write_page
from zdckeras.metrics.shapes import SHAPE_OBSERVABLES, shapes

SIZE = 260
EVIL = "</script><img src=x onerror=alert(1)> & co"


@pytest.fixture(scope="module")
def table():
    test = zdc.load("zn", "test", size=SIZE)
    made = zdc.compare({EVIL: Rolled(test)}, test, runs=1)
    made.costs[EVIL] |= {"ms_1": 2.0, "ms_256": 0.5}
    made.failures = {"broken": EVIL}
    return made


class Elements(HTMLParser):
    """Names of elements, attributes that would load something, ids, and the text of scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.loads, self.ids, self.scripts, self.inside = [], [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loads += [value for name, value in attributes if name in ("src", "href", "srcset", "action")]
        self.ids += [value for name, value in attributes if name == "id"]
        self.inside = tag == "script"

    def handle_data(self, text):
        if self.inside:
            self.scripts.append(text)
            self.inside = False


def test_nothing_is_loaded_and_no_name_becomes_markup(table, tmp_path):
    text = write_page(table, tmp_path / "page.html").read_text(encoding="utf-8")
    found = Elements(text)
    assert found.loads == [] and "img" not in found.tags and len(found.scripts) == 2
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text.replace(found.scripts[0], ""))
    assert "default-src 'none'" in text and EVIL not in text
    assert not any(f"/* {part} */" in text for part in (*PARTS, "data"))
    assert EVIL in json.loads(found.scripts[0])["rows"] and json.loads(found.scripts[0])["failures"]["broken"] == EVIL


def test_all_that_the_script_asks_for_is_there(table, tmp_path):
    found = Elements(write_page(table, tmp_path / "page.html").read_text(encoding="utf-8"))
    asked = set(re.findall(r'(?:\$|table|options)\("([\w-]+)"', found.scripts[1]))
    assert asked <= set(found.ids) and len(set(found.ids)) == len(found.ids)
    data, used = json.loads(found.scripts[0]), re.findall(r"\bdata\.(\w+)", found.scripts[1])
    assert set(used) <= set(data) and "innerHTML" not in found.scripts[1]


def test_histograms_and_pictures_are_those_of_the_showers(table):
    data, test = page_data(table), zdc.load("zn", "test", size=SIZE)
    assert data["rows"] == ["real", "floor", EVIL] and data["tabs"]["all"] == SIZE and "gamma" in data["tabs"]
    rows = pictured(test.pdg)
    image = data["gallery"]["images"]["real"][0]
    dense = np.zeros(44 * 44)
    dense[image[::2]] = image[1::2]
    assert np.array_equal(dense.reshape(44, 44), test.response[rows[0]])
    for tab, number in data["tabs"].items():
        assert all(sum(counts) == number for one in data["histograms"][tab] for counts in one["counts"].values())
    assert [one["title"] for one in data["histograms"]["all"]][5:] == list(SHAPE_OBSERVABLES.values())
    values, expected = shapes(test.response), data["corner"]["tabs"]["all"]["rows"]["real"]["correlation"]
    columns = [list(SHAPE_OBSERVABLES).index(name) for name in ("photons", "width")]
    assert expected[0][3] == pytest.approx(np.corrcoef(values[:, columns].T)[0, 1], abs=0.006)
    assert len(data["corner"]["tabs"]["all"]["rows"]["real"]["pairs"]) == 21


def test_points_have_a_time_and_their_quality(table):
    (point,) = page_data(table)["points"]
    assert point["name"] == EVIL and point["ms"] == {"1": 2.0, "256": 0.5} and point["front"]
    assert point["values"]["AUC"] == table.scores[EVIL]["auc"]


def test_json_for_a_script():
    assert embedded({"a": ["<&>", float("nan")]}) == '{"a":["\\u003c\\u0026\\u003e",null]}'
