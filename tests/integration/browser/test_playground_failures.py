"""The playground in a real Chromium: what cannot be answered, models that fail, servers and their going away."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

pytest.importorskip("gradio", reason="Gradio is not installed (extra 'playground')")
from playwright.sync_api import expect
from tests.conftest import byte_tokenizer, tiny_llama
from tests.integration.browser.playground_actions import (
    PATIENCE,
    WORDS,
    add_strategy,
    ask,
    keep,
    names,
    status,
    trace_page,
)
from tests.integration.servers import free_port
from tests.playground.fake_server import fake_server
from tests.playground.models import Scripted
from tests.trace.test_page import NASTY

from autodeco import AutoDecoForCausalLM
from autodeco.playground.server import ServerModel


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
        expect(page.get_by_label("Decoding command in words")).to_be_visible()
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
        expect(page.locator(".live .text").first).to_have_text("Once upon")
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
            expect(page.locator(".live .text span").nth(5)).to_be_attached()
        finally:
            process.kill()
    expect(page.locator("body")).to_contain_text(re.compile("onnection"))
    assert page.locator(".live .text span").count() > 5
    page.close()
