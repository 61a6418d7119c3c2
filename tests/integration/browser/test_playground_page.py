"""The playground's page in a real Chromium: a run's report, text that would be code, a narrow screen, axe."""

from __future__ import annotations

import pytest

pytest.importorskip("gradio", reason="Gradio is not installed (extra 'playground')")
from playwright.sync_api import expect
from tests.evaluation.report.test_training import log_line, write_log
from tests.integration.browser.playground_actions import WORDS, ask, keep, status, trace_page
from tests.playground.models import Scripted
from tests.trace.test_page import NASTY

from autodeco.playground.run_folder import run_page

# Gradio 6.31's own fault: the placeholder of its file list has a name and no role (axe: aria-prohibited-attr).
GRADIOS_EMPTY_FILE = ".empty[aria-label='Empty value']"


def test_nothing_of_a_model_runs(visited):
    words = [*NASTY, "${alert(8)}", "{{value}}", "<svg onload=alert(9)>"]
    name = "<img src=x onerror=alert(10)>"
    page = visited(Scripted(words, name=name, pause=0.05), lambda: "<p>" + "fine" + "</p>")
    page.get_by_label("Prompt", exact=True).wait_for()
    ask(page, "".join(NASTY).replace("\ud800", ""))
    expect(page.locator(".live")).to_be_visible()
    shown = trace_page(page)
    assert "<svg onload=alert(9)>" in shown.locator(".tokens").first.inner_text()
    assert page.locator("#answers img, #answers svg, #answers script, h1 img").count() == 0


def test_a_run(visited, tmp_path):
    folder = write_log(tmp_path / "run", [log_line(number, 1 - number / 100, 0.5) for number in range(1, 20)])
    page = visited(None, lambda: run_page(folder))
    shown = page.frame_locator("iframe.report")
    expect(shown.locator("h1")).to_have_text("Training: run")
    expect(shown.locator("img")).to_have_count(3)
    expect(shown.locator("img").first).to_have_js_property("complete", True)
    assert shown.locator("img").first.evaluate("image => image.naturalWidth") > 100
    (folder / "training_log.jsonl").write_text("{")
    second = page.context.new_page()
    second.goto(page.url)
    expect(second.get_by_role("alert")).to_contain_text("training_log.jsonl")


def test_a_narrow_screen(visited):
    page = visited(Scripted(WORDS * 20), width=360, height=740)
    ask(page)
    shown = trace_page(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert shown.locator("html").evaluate("page => page.scrollWidth <= page.clientWidth")
    shown.locator(".tokens > span").nth(3).click()
    expect(shown.locator(".token").first).to_contain_text("token 4 of 100")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility(visited, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed (extra 'dev')")
    page = visited(Scripted(WORDS * 100, pause=0.05), color_scheme=scheme)
    page.get_by_role("button", name="System message and steering").click()
    page.get_by_role("radio", name="diverse").check()

    def check(state):
        found = axe.Axe().run(page, context={"exclude": [GRADIOS_EMPTY_FILE]})
        assert found.violations_count == 0, f"{state}: {found.generate_report()}"

    check("empty")
    ask(page)
    expect(page.locator(".live .text span").nth(8)).to_be_visible()
    check("drawing")
    page.get_by_role("button", name="Stop").click()
    status(page, "Stopped.")
    keep(page)
    check("done")
    ask(page, " ")
    status(page, "Error.")
    check("error")
