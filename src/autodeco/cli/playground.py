"""``autodeco playground``: try a model in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from autodeco.cli.options import LOOPBACK, BaseModelOption, ConfigOption, DtypeOption
from autodeco.errors import ConfigError

if TYPE_CHECKING:
    from autodeco.playground.answering import AnsweringModel


def command(
    model: Annotated[
        str | None,
        typer.Argument(help="Heads' folder, merged or released checkpoint, or hub id; a name there with --server."),
    ] = None,
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="Decode with a running server, such as 'autodeco serve' starts.")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="VLLM_API_KEY", help="That the server wants as a bearer token.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Show a run's curves, tables and sweep: folder of 'train', 'eval' or 'demo'.")
    ] = None,
    base_model: BaseModelOption = None,
    dtype: DtypeOption = "auto",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 7860,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")] = True,
    config: ConfigOption = None,
) -> None:
    """Try a model in the browser: AutoDeco beside default sampling and others, live, with T and P at every token.

    \b
    Examples:
      autodeco playground runs/heads
      autodeco playground runs/heads --run runs/eval --port 8080 --no-browser
      autodeco playground --run demo-run
      autodeco playground --server http://127.0.0.1:8000
    """
    if model is None and run is None and server is None:
        raise ConfigError(
            "nothing to show: name a model (such as runs/heads), a server with --server URL, or a run with --run "
            "FOLDER."
        )
    if server is not None and (base_model is not None or dtype != "auto"):
        raise ConfigError("--base-model and --dtype are of a model on this machine, and --server has its own.")
    from autodeco.playground.run_folder import run_page
    from autodeco.playground.serve import serve

    console = Console(stderr=True)
    if host not in LOOPBACK:
        console.print(
            f"warning: listening on {host} without a password: whoever reaches this machine can use the model. Keep to "
            f"127.0.0.1 unless only people you trust reach it.",
            style="yellow",
            soft_wrap=True,
        )
    if run is not None:
        run_page(run)  # what cannot be shown is said here, before a model is loaded
    answering = _answering(model, server, api_key, base_model, dtype)
    report = None if run is None else lambda: run_page(run)

    def say(url: str) -> None:
        console.print(f"playground: {url} (Ctrl-C ends it)", markup=False, highlight=False, soft_wrap=True)

    serve(answering, report, host=host, port=port, browser=browser, say=say)


def _answering(
    model: str | None, server: str | None, api_key: str | None, base_model: str | None, dtype: str
) -> AnsweringModel | None:
    if server is not None:
        from autodeco.playground.server import ServerModel

        return ServerModel.connect(server, model, api_key=api_key)
    if model is None:
        return None
    from autodeco.playground.model import LocalModel

    return LocalModel.load(model, base_model, dtype=dtype)
