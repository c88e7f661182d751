"""The page of `jaxnn explain`, as somebody uses it: a real browser, its mouse and keyboard."""

import shutil
import subprocess
import sys

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium here")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    command = [sys.executable, "-m", "jaxnn", "explain", "iris", "--hidden", "5", "12", "--notation", "wtx"]
    done = subprocess.run(
        [*command, "--html", "p.html", "--iterations", "4"], cwd=folder, capture_output=True, text=True, check=True
    )
    assert "Written to p.html." in done.stdout
    return folder / "p.html"


@pytest.fixture
def page(file):
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(offline=True)
        said = []
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
        page.goto(file.as_uri())
        yield page
        assert said == []  # no error, and nothing was loaded
        browser.close()


def test_the_keyboard_steps_through_links_and_iterations(page):
    assert page.inner_text("#card h2").strip() == "x"
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert page.inner_text("#card code") == "z1 = W1ᵀ x + b1"
    assert page.inner_text("li[aria-current]") == "z1"
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#card h2").strip() == "b1"
    costs = [float(page.inner_text("#cost"))]
    for _ in range(5):  # there are four iterations
        page.keyboard.press("ArrowUp")
        costs.append(float(page.inner_text("#cost")))
    assert costs[0] > costs[1] > costs[2] > costs[3] == costs[4]  # gradient descent goes down
    assert page.inner_text("#iteration") == "4 of 4"
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#iteration") == "3 of 4"


def test_the_mouse_steps_and_chooses_a_link(page):
    page.click("#on")
    page.click("#later")
    assert (page.inner_text("#link"), page.inner_text("#iteration")) == ("2 of 31", "2 of 4")
    page.click("li:has-text('∂J/∂W2')")
    assert page.inner_text("#card h2").split() == ["∂J/∂W2"]  # what was verified is the first iteration
    page.click("#earlier")
    assert page.inner_text("#card h2").split() == ["∂J/∂W2", "PASS"]
    assert page.inner_text("#card code") == "∂J/∂W2 = a1 (∂J/∂z2)ᵀ"
    page.click("li:has-text('∂J/∂z1')")
    assert "Local derivative: a1 ⊙ (1 − a1)" in page.inner_text("#card")


def test_a_weight_lights_the_paths_through_it(page):
    """From input 3 to unit 2 of layer 1: that weight, the weights that leave unit 2, and all behind them."""
    assert page.locator("line.lit").count() == 0
    line = page.locator("line[data-weight='0,1,2']")
    x1, y1, x2, y2 = (float(line.get_attribute(name)) for name in ("x1", "y1", "x2", "y2"))
    box = page.locator("#net").bounding_box()
    scale = box["width"] / 640
    page.mouse.click(box["x"] + scale * (x1 + 0.1 * (x2 - x1)), box["y"] + scale * (y1 + 0.1 * (y2 - y1)))
    lit = set(page.locator("line.lit").evaluate_all("all => all.map(line => line.dataset.weight)"))
    drawn = 10  # of the 12 units of layer 2
    assert lit == {"0,1,2"} | {f"1,{j},1" for j in range(drawn)} | {
        f"2,{k},{j}" for k in range(3) for j in range(drawn)
    }
    page.click("li:has-text('W1') >> nth=0")
    weights = page.locator(".heat").first.locator("tr").nth(2).locator("td").nth(1).get_attribute("title")
    assert page.inner_text("#weight").startswith(f"W1, unit 2, input 3: {weights}; ∂J/∂W there: ")  # W is (n_in, n_out)
    assert "z2 (10 of 12)" in page.text_content("#net")
