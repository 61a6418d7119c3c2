"""Serves the playground: Gradio's own server, for this machine alone unless asked otherwise. Fetches nothing."""

from __future__ import annotations

import os
import re
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from autodeco.errors import ConfigError, MissingDependencyError
from autodeco.playground import view
from autodeco.playground.answering import AnsweringModel

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported
try:
    import gradio as gr
except ImportError:
    raise MissingDependencyError(
        'the playground needs Gradio, which is not installed: pip install "autodeco[playground]".'
    ) from None

from starlette.middleware import Middleware
from starlette.responses import Response

from autodeco.playground.app import build

_GRADIOS_FOLDER = "GRADIO_TEMP_DIR"
_FETCHING = re.compile("/(file=https?:|proxy=)", re.IGNORECASE)


def serve(
    model: AnsweringModel | None, report: Callable[[], str] | None, *, host: str, port: int, browser: bool, say: Any
) -> None:
    """Serves the playground until Ctrl-C or SIGTERM.

    Args:
        model: as in :func:`build`.
        report: as in :func:`build`.
        host: address to listen on.
        port: port to listen on.
        browser: whether to open a browser.
        say: called with the URL once the page is there.

    Raises:
        ConfigError: the port is taken, or the address is not this machine's.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so that the folder goes, too
    try:
        with private_folder() as folder, suppress(KeyboardInterrupt):
            page = build(model, report, folder)
            try:
                _, url, _ = start(page, host, port, browser=browser)
            except OSError as error:
                raise ConfigError(
                    f"the playground cannot listen on {host}:{port} ({error!s:.200}). Give another --port or --host."
                ) from None
            say(url)
            page.block_thread()
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder for files that a page hands out, and for Gradio's own copies of them, which nobody else can read.

    A page is to be built within the block: that is when Gradio asks for the place of its copies. The folder is removed
    at the end.
    """
    before = os.environ.get(_GRADIOS_FOLDER)
    with tempfile.TemporaryDirectory(prefix="autodeco-playground-") as folder:
        os.environ[_GRADIOS_FOLDER] = folder
        try:
            yield Path(folder)
        finally:
            if before is None:
                del os.environ[_GRADIOS_FOLDER]
            else:
                os.environ[_GRADIOS_FOLDER] = before


def start(page: Any, host: str, port: int | None, *, browser: bool = False) -> tuple[Any, str, str]:
    """Starts a page's server in a thread and returns what Gradio does: application, URL, URL of a shared link."""
    started: tuple[Any, str, str] = page.launch(
        server_name=host,
        server_port=port,
        inbrowser=browser,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        footer_links=[],
        ssr_mode=False,
        max_file_size=1,  # byte: nothing is to be uploaded
        app_kwargs={"middleware": [Middleware(_FetchesNothing)]},
        css=view.STYLE,
        theme=_theme(),
    )
    return started


class _FetchesNothing:
    """Refuses the addresses at which Gradio's server fetches a page from elsewhere for whoever asks."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        elsewhere = scope["type"] == "http" and _FETCHING.search(scope["path"])
        await (Response(status_code=403) if elsewhere else self._app)(scope, receive, send)


def _theme() -> Any:
    """Gradio's own with the system's fonts (others are fetched from elsewhere) and more contrast (WCAG 2, AA)."""
    theme = gr.themes.Default(
        primary_hue="indigo", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    return theme.set(
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        link_text_color_dark="*secondary_300",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_dark="*primary_600",
    )
