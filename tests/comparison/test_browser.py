"""The page in a real browser, where there is one: a Chromium of this machine, driven by playwright."""

import shutil

import pytest

import zdckeras as zdc
from tests.comparison.conftest import Rolled
from zdckeras.comparison.page import write_page

sync = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
LIT = "canvas => new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    test = zdc.load("zn", "test", size=260)
    made = zdc.compare([Rolled(test, 0, f"model {k}") for k in range(8)], test, runs=1)
    for k, row in enumerate(made.models()):
        made.costs[row] |= {"ms_1": 1.0 + k, "ms_256": 0.1 + k}
    return write_page(made, tmp_path_factory.mktemp("report") / "page.html")


@pytest.mark.parametrize("width", [1400, 390])
def test_page_is_drawn_and_answers(page, width):
    """No message on the console; tabs, zoom and legend work; only tables that scroll are wider than the screen."""
    said = []
    with sync.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": width, "height": 900})
        view.on("console", lambda message: said.append(message.text))
        view.on("pageerror", lambda error: said.append(str(error)))
        view.goto(page.as_uri())
        assert view.evaluate("document.documentElement.scrollWidth") <= width
        assert view.eval_on_selector("#gallery canvas", LIT) > 2
        curves = view.locator("#shapes path[fill=none]").count()
        view.locator("#legend button", has_text="model 3").click()
        assert view.locator("#shapes path[fill=none]").count() == curves - 11  # one in every shape
        view.locator("#tabs button", has_text="gamma").click()
        assert view.locator("#tabs button[aria-selected=true]").inner_text().startswith("gamma")
        view.locator("#gallery canvas").first.click()
        assert view.locator("#zoomed canvas").count() == 9  # real, the floor and the models but one
        colours = view.eval_on_selector_all("#legend i", "found => found.map(one => one.style.background)")
        assert len(set(colours)) == len(colours) == 9  # all different
        browser.close()
    assert said == []
