"""Serves the playground until it is ended, with a private folder for what it hands out."""

from __future__ import annotations

import importlib.util
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from autodeco.errors import ConfigError, MissingDependencyError
from autodeco.playground.answering import AnsweringModel

# Said before a model is loaded; the import itself comes later.
if importlib.util.find_spec("gradio") is None:
    raise MissingDependencyError(
        'the playground needs Gradio, which is not installed: pip install "autodeco[playground]".'
    )

_GRADIOS_FOLDER = "GRADIO_TEMP_DIR"


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
            # Gradio is imported here, as it makes folders in the place that it is told of by then.
            from autodeco.playground.gradio_server import build, start

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

    A page is to be built within the block, and Gradio best imported there: that is when it asks for the place of its
    copies. The folder is removed at the end.
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
