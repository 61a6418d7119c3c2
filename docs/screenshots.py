"""Takes the documentation's screenshots: a playground on the demo's heads, in Chromium. ``make screenshots``."""

from __future__ import annotations

import argparse
import io
import os
import shutil
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import expect, sync_playwright

from autodeco.playground.gradio_server import build, start
from autodeco.playground.model import LocalModel
from autodeco.playground.run_folder import run_page
from autodeco.playground.serve import private_folder

IMAGES = Path(__file__).parent / "images"
MAX_BYTES = 200_000
PROMPT = "Tom has 3 bags with 4 apples each and eats 2 apples. How many are left?"
PATIENCE = 300_000  # milliseconds


def main() -> None:
    """Reads the demo's folder from the command line and writes ``docs/images``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path, help="output folder of 'autodeco demo'")
    demo = parser.parse_args().demo
    model = LocalModel.load(str(demo / "heads"))
    model.name = "demo-run/heads"
    with private_folder() as folder, sync_playwright() as driver:
        page = build(model, lambda: run_page(demo / "heads"), folder)
        _, url, _ = start(page, "127.0.0.1", None)
        chromium = os.environ.get("AUTODECO_TEST_CHROMIUM") or shutil.which("chromium")
        # Chromium's own sandbox needs namespaces that containers do not give; the pages are this project's.
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        take(browser, url)
        page.close(verbose=False)


def take(browser: Any, url: str) -> None:
    """Asks one question and takes a picture of the page, of the token looked at, and of the run."""
    page = browser.new_page(viewport={"width": 1360, "height": 960})
    page.set_default_timeout(PATIENCE)
    page.goto(url)
    page.get_by_label("Prompt", exact=True).fill(PROMPT)
    page.get_by_label("Longest answer").fill("80")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#status")).to_contain_text("Done.", timeout=PATIENCE)
    page.frame_locator("iframe.trace").locator(".tokens > span").nth(4).click()
    page.evaluate("scrollTo(0, 0)")
    save("playground.png", page.screenshot())
    page.get_by_role("tab", name="Run").click()
    expect(page.frame_locator("iframe.report").locator("img").first).to_be_visible()
    page.wait_for_timeout(2000)  # the tab fades in
    save("playground-run.png", page.screenshot())


def save(name: str, png: bytes) -> None:
    """Writes a picture with a palette of 256 colours, which these pages do not exceed by much."""
    image = Image.open(io.BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    IMAGES.mkdir(exist_ok=True)
    image.save(IMAGES / name, optimize=True)
    size = (IMAGES / name).stat().st_size
    assert size <= MAX_BYTES, f"{name} has {size:,} bytes; at most {MAX_BYTES:,} are kept in the repository."


if __name__ == "__main__":
    main()
