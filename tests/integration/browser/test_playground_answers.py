"""The playground as a visitor uses it, in a real Chromium: type, generate, look, compare, steer, keep."""

from __future__ import annotations

import pytest

pytest.importorskip("gradio", reason="Gradio is not installed (extra 'playground')")
from playwright.sync_api import expect
from tests.integration.browser.playground_actions import WORDS, add_strategy, ask, keep, names, status, trace_page
from tests.playground.models import Scripted

from autodeco.playground.model import LocalModel
from autodeco.trace.format import read_trace


def test_type_generate_click_a_token(visited):
    page = visited(Scripted(WORDS))
    ask(page)
    shown = trace_page(page)
    spans = shown.locator(".run").nth(0).locator(".tokens > span")
    assert spans.all_inner_texts() == WORDS
    spans.nth(3).click()
    details = shown.locator(".run .token")
    expect(details).to_contain_text(["token 4 of 5", "token 4 of 5"])
    expect(details.first).to_contain_text("·best")


def test_autodeco_stands_beside_default_and_others(visited, local_model):
    page = visited(local_model, width=1440)
    page.get_by_label("Longest answer").fill("12")
    add_strategy(page, "static:temperature=0.6,top_p=0.95")
    ask(page)
    shown = trace_page(page)
    names(shown, "autodeco", "default", "static:temperature=0.6,top_p=0.95")
    first, second = (shown.locator(".run").nth(run).bounding_box() for run in (0, 1))
    assert first["y"] == second["y"]


def test_a_model_without_heads(visited, base_folder):
    page = visited(LocalModel.load(str(base_folder)))
    expect(page.locator("body")).to_contain_text("This model has no heads")
    page.get_by_label("Longest answer").fill("3")
    ask(page)
    names(trace_page(page), "default")


def test_tokens_appear_while_they_are_drawn_and_stop_keeps_them(visited):
    page = visited(Scripted(["word "] * 5000, pause=0.02))
    ask(page)
    expect(page.locator(".live .text span.t10").first).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    status(page, "Stopped. autodeco:")
    expect(page.frame_locator("iframe.trace").locator("html.script")).to_be_attached()
    count = page.frame_locator("iframe.trace").locator(".tokens > span").count()
    assert 5 < count < 4000
    ask(page, "Again.")  # and it can be asked again
    expect(page.locator(".live .text span").nth(2)).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    status(page, "Stopped.")


def test_another_seed(visited, local_model):
    page = visited(local_model)
    page.get_by_label("Longest answer").fill("8")
    ask(page)
    expect(trace_page(page).locator(".facts").first).to_contain_text("seed 0")
    page.get_by_role("button", name="New seed").click()
    expect(page.frame_locator("iframe.trace").locator(".facts").first).to_contain_text("seed 1")
    assert page.get_by_label("Seed").input_value() == "1"


def test_steering(visited, local_model):
    page = visited(local_model)
    page.get_by_label("Longest answer").fill("8")
    system = page.get_by_label("System message", exact=True)
    expect(system).to_be_attached()  # before it is shown: it would lose what is typed into it while it is made
    expect(system).to_be_hidden()
    page.get_by_role("button", name="System message and steering").click()
    system.fill("Be brief.")
    page.get_by_label("Decoding command in words").fill("No randomness.")
    page.get_by_role("radio", name="certain").check()
    ask(page)
    shown = trace_page(page)
    expect(shown.locator("h2").first).to_have_text("autodeco, decoding='certain'")
    shown.locator("summary").click()
    prompt = shown.locator(".prompt .text").inner_text()
    assert "Be brief." in prompt
    assert "Say it.↵\n↵\nNo randomness." in prompt
    page.get_by_role("radio", name="fixed").check()
    ask(page)
    status(page, "'fixed' needs a T, a P or both")
    page.get_by_label("Fixed T").fill("0.3")
    ask(page)
    expect(trace_page(page).locator("h2").first).to_have_text("autodeco, decoding={'temperature': 0.3}")


def test_export(visited, local_model, tmp_path):
    page = visited(local_model)
    page.get_by_label("Longest answer").fill("8")
    ask(page)
    status(page, "Done.")
    keep(page)
    link = page.locator("a[href$='.jsonl']").first
    assert "/autodeco-playground-" in link.get_attribute("href")  # Gradio's copy lies in the private folder
    with page.expect_download() as download:
        link.press("Enter")  # as in keep()
    download.value.save_as(tmp_path / "kept.jsonl")
    assert len(read_trace(tmp_path / "kept.jsonl").tokens) == 8
