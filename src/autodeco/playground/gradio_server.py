"""Gradio's own server for the playground's page: for this machine alone unless asked otherwise. Fetches nothing."""

from __future__ import annotations

import os
import re
from typing import Any

from autodeco.playground import view

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported
import gradio as gr
from starlette.middleware import Middleware
from starlette.responses import Response

from autodeco.playground.app import build

__all__ = ["build", "start"]

_FETCHING = re.compile("/(file=https?:|proxy=)", re.IGNORECASE)


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
