"""The playground as a visitor uses it, in a real Chromium: type, generate, look, compare, steer, keep, fail, axe."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import ExitStack

import pytest

pytest.importorskip("gradio", reason="Gradio is not installed (extra 'playground')")
from playwright.sync_api import expect
from tests.conftest import byte_tokenizer, tiny_llama
from tests.evaluation.report.test_training import log_line, write_log
from tests.integration.servers import free_port
from tests.playground.fake_server import fake_server
from tests.playground.models import Scripted, tiny_model
from tests.trace.test_page import NASTY

from autodeco import AutoDecoForCausalLM
from autodeco.playground.gradio_server import build, start
from autodeco.playground.model import LocalModel
from autodeco.playground.run_folder import run_page
from autodeco.playground.serve import private_folder
from autodeco.playground.server import ServerModel
from autodeco.trace.format import read_trace

WORDS = ["Once", " upon", " a", " time", "."]
# Gradio 6.31's own fault: the placeholder of its file list has a name and no role (axe: aria-prohibited-attr).
GRADIOS_EMPTY_FILE = ".empty[aria-label='Empty value']"
PATIENCE = 120_000  # milliseconds; a busy machine is not a mistake


@pytest.fixture(scope="module")
def local_model():
    return tiny_model()


@pytest.fixture
def visited(chromium):
    """Serves a playground and opens it. Complaints of the browser and requests to elsewhere fail the test."""
    complaints, pages, contexts = [], [], []
    folder = ExitStack()

    def visit(model, report=None, *, width=1280, height=900, **options):
        pages.append(build(model, report, folder.enter_context(private_folder())))
        _, url, _ = start(pages[-1], "127.0.0.1", None)
        contexts.append(chromium.new_context(viewport={"width": width, "height": height}, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda asked: _is_elsewhere(asked.url, url) and complaints.append(f"asks {asked.url}"))
        page.goto(url)
        return page

    yield visit
    for context in contexts:
        context.close()
    for page in pages:
        page.close(verbose=False)
    folder.close()
    assert complaints == []


def _is_elsewhere(asked, url):
    return not asked.startswith((url, "data:", "blob:", "about:"))


def ask(page, prompt="Say it.", button="Generate"):
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_role("button", name=button).click()


def status(page, text):
    expect(page.locator("#status")).to_contain_text(text, timeout=PATIENCE)


def trace_page(page):
    """The frame with the traces once its script has run."""
    status(page, "Done.")
    frame = page.frame_locator("iframe.trace")
    expect(frame.locator("html.script")).to_be_attached(timeout=PATIENCE)
    return frame


def names(shown, *expected):
    expect(shown.locator("h2")).to_have_text(list(expected), timeout=PATIENCE)


def keep(page, code="model.generate"):
    page.get_by_role("button", name="Keep it").press("Enter")  # a click can miss it while the frame above it grows
    expect(page.locator("pre.python")).to_contain_text(code, timeout=PATIENCE)


def add_strategy(page, spec):
    box = page.get_by_label("Beside AutoDeco")
    box.fill(spec)
    box.press("Enter")
    page.keyboard.press("Escape")


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


def test_tokens_appear_while_they_are_drawn_and_stop_keeps_them(visited):
    page = visited(Scripted(["word "] * 5000, pause=0.02))
    ask(page)
    expect(page.locator(".live .text span.t10").first).to_be_visible(timeout=PATIENCE)
    page.get_by_role("button", name="Stop").click()
    status(page, "Stopped. autodeco:")
    expect(page.frame_locator("iframe.trace").locator("html.script")).to_be_attached(timeout=PATIENCE)
    count = page.frame_locator("iframe.trace").locator(".tokens > span").count()
    assert 5 < count < 4000
    ask(page, "Again.")  # and it can be asked again
    expect(page.locator(".live .text span").nth(2)).to_be_visible(timeout=PATIENCE)
    page.get_by_role("button", name="Stop").click()
    status(page, "Stopped.")


def test_another_seed(visited, local_model):
    page = visited(local_model)
    page.get_by_label("Longest answer").fill("8")
    ask(page)
    expect(trace_page(page).locator(".facts").first).to_contain_text("seed 0")
    page.get_by_role("button", name="New seed").click()
    expect(page.frame_locator("iframe.trace").locator(".facts").first).to_contain_text("seed 1", timeout=PATIENCE)
    assert page.get_by_label("Seed").input_value() == "1"


def test_steering(visited, local_model):
    page = visited(local_model)
    page.get_by_label("Longest answer").fill("8")
    page.get_by_role("button", name="System message and steering").click()
    page.get_by_label("System message", exact=True).fill("Be brief.")
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


@pytest.mark.parametrize(
    ("prompt", "message"),
    [(" ", "The prompt is empty."), ("x" * 102_400, "this model reads at most 2,048")],
    ids=["empty", "100 KB"],
)
def test_prompts_that_cannot_be_answered(visited, local_model, prompt, message):
    page = visited(local_model)
    ask(page, prompt)
    status(page, message)
    expect(page.get_by_role("alert")).to_have_count(1)
    page.get_by_label("Longest answer").fill("3")
    ask(page)  # and it works afterwards
    trace_page(page)


def test_a_strategy_that_there_is_not(visited, local_model):
    page = visited(local_model)
    add_strategy(page, "defualt")
    ask(page)
    status(page, "Did you mean 'default'?")


def test_a_model_without_heads(visited, base_folder):
    page = visited(LocalModel.load(str(base_folder)))
    expect(page.locator("body")).to_contain_text("This model has no heads")
    page.get_by_label("Longest answer").fill("3")
    ask(page)
    names(trace_page(page), "default")


def test_a_model_that_fails_in_mid_stream(visited):
    page = visited(Scripted(WORDS, pause=0.1, fails_after=3))
    ask(page)
    status(page, "The model went away.")
    expect(page.locator(".live .text").first).to_have_text("".join(WORDS[:3]))


def test_a_server(visited):
    with fake_server() as server:
        page = visited(ServerModel.connect(server.url))
        expect(page.locator("body")).to_contain_text("Answers come from a server.")
        page.get_by_role("button", name="System message and steering").click()
        expect(page.get_by_label("Decoding command in words")).to_be_visible(timeout=PATIENCE)
        expect(page.get_by_role("radio")).to_have_count(0)
        ask(page)
        shown = trace_page(page)
        names(shown, "autodeco", "default")
        shown.locator(".run").first.locator(".tokens > span").nth(3).click()
        detail = shown.locator(".token").first
        expect(detail).to_contain_text("token 4 of 5")
        expect(detail.locator("dd")).to_have_text(["0.600", "0.500", "1.25 after"])
        expect(detail.locator("table")).to_have_count(0)
        for tint in ("entropy", "probability"):
            shown.get_by_label("Tint").select_option(tint)
        keep(page, "/v1/chat/completions")
        server.fails, server.key = None, "another"
        ask(page)
        status(page, "wants an API key (status 401)")


def test_a_server_that_goes_away_in_mid_stream(visited):
    with fake_server(fails="dies", pause=0.1) as server:
        page = visited(ServerModel.connect(server.url))
        ask(page)
        status(page, "Is the server still running?")
        expect(page.locator(".live .text").first).to_have_text("Once upon", timeout=PATIENCE)
        server.fails = None
        ask(page)  # and it can be asked again
        trace_page(page)


def test_a_server_that_gives_text_alone(visited):
    with fake_server(traces=False, words=[*WORDS, NASTY[0]]) as server:
        page = visited(ServerModel.connect(server.url))
        expect(page.locator("body")).to_contain_text("gives their text alone")
        ask(page)
        status(page, "Done. autodeco: pieces of text: 6; greedy: pieces of text: 6.")
        expect(page.locator(".live .text").first).to_contain_text("".join(WORDS))


def test_the_playground_goes_away_in_mid_stream(chromium, tmp_path):
    """Ended as a process is: the page says so, and what had come stays."""
    tokenizer = byte_tokenizer()
    base = tiny_llama(vocab_size=len(tokenizer), max_position_embeddings=8192, eos_token_id=None)
    base.generation_config.eos_token_id = None  # never ends an answer by itself
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    AutoDecoForCausalLM.from_base(tmp_path / "base").save_pretrained(tmp_path / "heads")
    code = "from autodeco.cli import main; main()"
    command = [sys.executable, "-c", code, "playground", str(tmp_path / "heads"), "--no-browser", "--port"]
    with subprocess.Popen([*command, str(free_port())], stderr=subprocess.PIPE, text=True) as process:
        try:
            url = next(found[0] for line in process.stderr if (found := re.search(r"http://\S+", line)))
            page = chromium.new_page()
            page.set_default_timeout(PATIENCE)
            page.goto(url)
            page.get_by_label("Longest answer").fill("8000")
            ask(page)
            expect(page.locator(".live .text span").nth(5)).to_be_attached(timeout=PATIENCE)
        finally:
            process.kill()
    expect(page.locator("body")).to_contain_text(re.compile("onnection"), timeout=PATIENCE)
    assert page.locator(".live .text span").count() > 5
    page.close()


def test_nothing_of_a_model_runs(visited):
    words = [*NASTY, "${alert(8)}", "{{value}}", "<svg onload=alert(9)>"]
    name = "<img src=x onerror=alert(10)>"
    page = visited(Scripted(words, name=name, pause=0.05), lambda: "<p>" + "fine" + "</p>")
    page.get_by_label("Prompt", exact=True).wait_for()
    ask(page, "".join(NASTY).replace("\ud800", ""))
    expect(page.locator(".live")).to_be_visible(timeout=PATIENCE)
    shown = trace_page(page)
    assert "<svg onload=alert(9)>" in shown.locator(".tokens").first.inner_text()
    assert page.locator("#answers img, #answers svg, #answers script, h1 img").count() == 0


def test_a_run(visited, tmp_path):
    folder = write_log(tmp_path / "run", [log_line(number, 1 - number / 100, 0.5) for number in range(1, 20)])
    page = visited(None, lambda: run_page(folder))
    shown = page.frame_locator("iframe.report")
    expect(shown.locator("h1")).to_have_text("Training: run", timeout=PATIENCE)
    expect(shown.locator("img")).to_have_count(3, timeout=PATIENCE)
    expect(shown.locator("img").first).to_have_js_property("complete", True, timeout=PATIENCE)
    assert shown.locator("img").first.evaluate("image => image.naturalWidth") > 100
    (folder / "training_log.jsonl").write_text("{")
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("training_log.jsonl", timeout=PATIENCE)


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
    expect(page.locator(".live .text span").nth(8)).to_be_visible(timeout=PATIENCE)
    check("drawing")
    page.get_by_role("button", name="Stop").click()
    status(page, "Stopped.")
    keep(page)
    check("done")
    ask(page, " ")
    status(page, "Error.")
    check("error")
