"""The plot of hard against soft top-p as a reader uses it: numbers, keyboard, no script, a narrow screen, axe."""

from __future__ import annotations

import pytest
from tests.docs.figures import figures


@pytest.fixture
def method(chromium, site):
    """Opens the page of the built site. What the browser complains about, or fetches from elsewhere, fails the test."""
    complaints, contexts = [], []

    def open_page(**options):
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: request.url.startswith("file:") or complaints.append(request.url))
        page.goto((site / "method.html").as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def numbers(page):
    page.locator("#soft-top-p details").evaluate("details => details.open = true")
    rows = page.locator("#soft-top-p tbody tr").all()
    cells = [[float(text) for text in row.locator("td").all_inner_texts()] for row in rows]
    return [list(column) for column in zip(*cells, strict=True)][1:]


@pytest.mark.parametrize("rule", ["inclusive", "exclusive"])
@pytest.mark.parametrize(("temperature", "top_p", "alpha"), [(1, 0.7, 30), (0.5, 0.3, 100), (2, 0.95, 5), (1.5, 1, 30)])
def test_numbers_are_the_packages(method, rule, temperature, top_p, alpha):
    page = method()
    for name, value in (("T", temperature), ("P", top_p), ("alpha", alpha)):
        page.locator(f"#soft-top-p input[name={name}]").fill(str(value))
    page.get_by_label("cumulative sum").select_option(rule)
    expected = figures.nuclei(temperature, top_p, alpha)
    base, hard, soft = numbers(page)
    assert base == pytest.approx(expected["softmax(l / T)"], abs=6e-5)
    assert hard == pytest.approx(expected["hard top-p"], abs=6e-5)
    assert soft == pytest.approx(expected[f"soft, {rule}"], abs=6e-5)


def test_the_keyboard_moves_a_slider_and_the_page_says_what_changed(method):
    page = method()
    status = page.locator("#soft-top-p [role=status]")
    assert "keeps 3 tokens, 79.3% of the mass" in status.inner_text()
    page.get_by_label("top-p P").focus()
    page.keyboard.press("Home")
    assert "keeps 1 token, 40.5% of the mass" in status.inner_text()
    page.keyboard.press("End")
    assert "keeps 10 tokens, 100.0% of the mass" in status.inner_text()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#soft-top-p output").nth(1).inner_text() == "0.99"


def test_without_script_the_picture_is_there(method):
    page = method(java_script_enabled=False)
    picture = page.locator("#soft-top-p img")
    assert picture.is_visible()
    assert picture.evaluate("image => image.naturalWidth") > 500
    assert page.locator("math mfrac").count() == 4


def test_a_narrow_screen_needs_no_scrolling_sideways(method):
    page = method(viewport={"width": 360, "height": 700})
    assert page.locator("#soft-top-p svg").first.bounding_box()["width"] < 360
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_the_plot(method, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="extra 'dev'")
    page = method(color_scheme=scheme)
    found = axe.Axe().run(page, context="#soft-top-p", options={"preload": False})
    assert found.violations_count == 0, found.generate_report()
