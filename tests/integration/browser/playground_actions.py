"""What a visitor does on the playground's page, and what is waited for. Asserts nothing but that it comes."""

from __future__ import annotations

from playwright.sync_api import expect

WORDS = ["Once", " upon", " a", " time", "."]  # of scripted models
PATIENCE = 120_000  # milliseconds; a busy machine is not a mistake
expect.set_options(timeout=PATIENCE)


def ask(page, prompt="Say it."):
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_role("button", name="Generate").click()


def status(page, text):
    expect(page.locator("#status")).to_contain_text(text)


def trace_page(page):
    """The frame with the traces once its script has run."""
    status(page, "Done.")
    frame = page.frame_locator("iframe.trace")
    expect(frame.locator("html.script")).to_be_attached()
    return frame


def names(shown, *expected):
    expect(shown.locator("h2")).to_have_text(list(expected))


def keep(page, code="model.generate"):
    page.get_by_role("button", name="Keep it").press("Enter")  # a click can miss it while the frame above it grows
    expect(page.locator("pre.python")).to_contain_text(code)


def add_strategy(page, spec):
    box = page.get_by_label("Beside AutoDeco")
    box.fill(spec)
    box.press("Enter")
    page.keyboard.press("Escape")
