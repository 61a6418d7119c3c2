"""The trace page as a reader uses it: mouse, keyboard, search, comparison, themes, paper, no script, axe."""

import pytest
from tests.trace.test_page import NASTY
from tests.trace.traces import long_trace, token, trace

WORDS = ["Once", " upon", " a", " time", ",", "\n", " <b>she</b>", " left", "."]


def short_trace(words=WORDS, **header):
    tokens = [
        token(word, token_id=100 + index + 100 * (word not in WORDS), temperature=index / 5, top_p=0.5 + index / 40)
        for index, word in enumerate(words)
    ]
    return trace(tokens, **header)


def spans(page, run=0):
    return page.locator(".run").nth(run).locator(".tokens > span")


def detail(page, run=0):
    return page.locator(".run").nth(run).locator(".token").inner_text()


def test_a_click_shows_a_token_and_its_alternatives(opened):
    page = opened([short_trace()])
    assert page.locator(".tools").is_visible()
    spans(page).nth(3).click()
    shown = detail(page)
    assert "·time" in shown
    assert "token 4 of 9" in shown
    assert "id 103" in shown
    assert "0.600" in shown  # T
    assert "0.575" in shown  # P
    assert "1.50 → 1.25" in shown
    rows = page.locator(".token tbody tr").all_inner_texts()
    assert [row.split() for row in rows] == [
        ["·time", "0.500", "0.625"],
        ["·best", "0.250", "0.300"],
        ["·cut", "0.010", "cut"],
    ]
    assert page.locator(".token tr.chosen").inner_text().startswith("·time")
    assert spans(page).nth(3).get_attribute("class") == "t6 here"


def test_the_keyboard_moves_the_shared_position(opened):
    page = opened([short_trace()])
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search-text"
    for _ in range(3):  # the two buttons, the prompt
        page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    slider = page.get_by_role("slider", name="Token")
    assert slider.evaluate("slider => slider === document.activeElement")
    page.keyboard.press("ArrowRight")
    assert "token 2 of 9" in detail(page)
    assert slider.get_attribute("aria-valuetext") == "token 2 of 9: upon, temperature 0.2"
    page.keyboard.press("End")
    assert "token 9 of 9" in detail(page)
    page.keyboard.press("Home")
    assert "token 1 of 9" in detail(page)


def test_after_a_click_the_arrows_go_on_from_there(opened):
    page = opened([short_trace()])
    spans(page).nth(3).click()
    page.keyboard.press("ArrowRight")
    assert "token 5 of 9" in detail(page)


def test_the_curves_and_the_text_share_a_cursor(opened):
    page = opened([short_trace()])
    curve = page.locator(".of-p svg").bounding_box()
    page.mouse.move(curve["x"] + curve["width"] * 7.5 / 9, curve["y"] + 10)
    assert "token 8 of 9" in detail(page)
    cursors = page.locator(".cursor").evaluate_all("all => all.map(one => one.getBoundingClientRect().x)")
    assert cursors == pytest.approx([curve["x"] + curve["width"] * 7.5 / 9] * 2, abs=2)


def test_two_runs_move_together(opened):
    other = short_trace([*WORDS[:4], " <i>ago"], strategy="default")
    page = opened([short_trace(), other])
    spans(page, 1).nth(4).click()
    assert "token 5 of 9" in detail(page, 0)
    assert "token 5 of 5" in detail(page, 1)
    spans(page, 0).nth(7).click()
    assert "token 8 of 9" in detail(page, 0)
    assert "This run has ended here." in detail(page, 1)
    first, second = (page.locator(".run").nth(run).bounding_box() for run in (0, 1))
    assert first["y"] == second["y"]
    assert second["x"] > first["x"] + first["width"]
    assert "differs from the first run from token 5 on" in page.locator(".facts").nth(1).inner_text()


def test_search(opened):
    page = opened([short_trace(), short_trace(strategy="default")])
    page.locator("#search-text").fill("TIME,")  # over two tokens, in both runs
    assert page.locator("#search-result").inner_text() == "2 found"
    assert page.locator(".hit").all_inner_texts() == [" time", ","] * 2
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert page.locator("#search-result").inner_text() == "2 of 2 found"
    assert page.locator(".run").nth(1).locator(".now").count() == 2
    assert "token 4 of 9" in detail(page, 1)
    page.keyboard.press("Shift+Enter")
    assert page.locator("#search-result").inner_text() == "1 of 2 found"
    page.locator("#search-text").fill("(a+)+$")  # text, not a pattern
    assert page.locator("#search-result").inner_text() == "nothing found"
    page.locator("#search-text").fill("<b>")
    assert page.locator("#search-result").inner_text() == "2 found"
    page.locator("#search-text").fill("")
    assert page.locator(".hit").count() == 0


def test_other_tints(opened):
    page = opened([short_trace()])
    page.get_by_label("Tint").select_option("top-p")
    assert spans(page).nth(8).get_attribute("class") == "s14"
    assert page.locator(".legend").inner_text().startswith("Top-p")
    page.get_by_label("Tint").select_option("temperature")
    assert spans(page).nth(8).get_attribute("class") == "t16"


def background(page, selector):
    return page.locator(selector).first.evaluate("one => getComputedStyle(one).backgroundColor")


def test_light_and_dark_follow_the_system_and_the_reader(opened):
    page = opened([short_trace()], color_scheme="dark")
    dark = background(page, "html"), background(page, ".tokens > span")
    page.get_by_label("Theme").select_option("light")
    light = background(page, "html"), background(page, ".tokens > span")
    assert light[0] == "rgb(253, 253, 251)"
    assert dark[0] == "rgb(23, 24, 27)"
    assert light[1] != dark[1]


@pytest.mark.parametrize("count", [1, 2])
def test_a_narrow_screen_needs_no_sideways_scrolling(opened, count):
    page = opened([short_trace(), short_trace(["x" * 400], strategy="default")][:count], width=360, height=740)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    spans(page).nth(3).click()
    assert "token 4 of 9" in detail(page)


def test_the_text_is_there_without_script(opened):
    page = opened([short_trace()], java_script_enabled=False)
    assert "Once upon a time,↵\n <b>she</b> left." in page.locator(".tokens").text_content()
    assert page.locator(".tools").is_hidden()
    assert page.get_by_role("slider").count() == 0
    assert page.locator(".chart svg").first.is_visible()
    assert background(page, ".tokens > span") != "rgba(0, 0, 0, 0)"


def test_printing_keeps_the_text_and_leaves_out_the_tools(opened):
    page = opened([short_trace(), short_trace(strategy="default")], color_scheme="dark")
    page.emulate_media(media="print")
    assert page.locator(".tools").is_hidden()
    assert page.locator(".tokens").first.is_visible()
    assert background(page, "html") == "rgb(253, 253, 251)"
    assert page.pdf()[:5] == b"%PDF-"


def test_nothing_of_a_models_text_runs_or_loads(opened):
    whole = "".join(NASTY)
    page = opened([short_trace(NASTY, model=whole, prompt=whole, strategy=whole)])
    for index in range(len(NASTY)):
        spans(page).nth(index).click()
    page.locator("#search-text").fill("<script>")
    assert page.locator("#search-result").inner_text() == "3 found"
    assert page.locator("script").count() == 2
    assert page.locator("img, iframe, object, embed, link").count() == 0
    assert page.title().startswith("Trace of <script>alert(1)</script></script>")


def test_scripts_that_are_not_the_pages_own_do_not_run(chromium, tmp_path):
    from autodeco.trace.page import render_page

    html = render_page([short_trace()]).replace("</main>", '</main><script>document.title = "run"</script>')
    (tmp_path / "changed.html").write_text(html)
    page = chromium.new_page()
    page.goto((tmp_path / "changed.html").as_uri())
    assert page.title() == "Trace of m"
    assert page.locator(".tools").is_visible()
    page.close()


def test_four_thousand_tokens(opened):
    page = opened([long_trace(4000)])
    spans(page).nth(3999).scroll_into_view_if_needed()
    spans(page).nth(3990).click()
    assert "token 3991 of 4000" in detail(page)
    page.keyboard.press("Home")
    assert "token 1 of 4000" in detail(page)
    assert spans(page).first.evaluate("one => one.getBoundingClientRect().top") >= 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("count", [1, 2])
def test_accessibility(opened, scheme, count):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed (extra 'dev')")
    words = [*WORDS, "\x1b[2J", " שלום", "\u200b"]
    page = opened([short_trace(words), short_trace(words, strategy="default")][:count], color_scheme=scheme)
    spans(page).nth(2).click()
    page.locator("#search-text").fill("a")
    page.locator("summary").first.click()
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
