"""Puts the subcommands together and turns errors into one clear line."""

from __future__ import annotations

import errno
import logging
import sys
from typing import Annotated

import typer
from rich.console import Console

from autodeco.cli import (
    chat,
    control,
    convert,
    demo,
    diagnose,
    doctor,
    eval,
    generate,
    inspect,
    merge,
    playground,
    report,
    rollout,
    serve,
    split,
    trace,
    train,
)
from autodeco.errors import AutoDecoError
from autodeco.version import __version__

app = typer.Typer(
    name="autodeco",
    help="Language models that decode themselves: a learned temperature and top-p for every token.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, _module in {
    "demo": demo,
    "rollout": rollout,
    "train": train,
    "generate": generate,
    "chat": chat,
    "trace": trace,
    "playground": playground,
    "eval": eval,
    "report": report,
    "diagnose": diagnose,
    "serve": serve,
    "merge": merge,
    "split": split,
    "inspect": inspect,
    "convert": convert,
    "doctor": doctor,
}.items():
    app.command(name=_name, context_settings=getattr(_module, "CONTEXT", None))(_module.command)

app.add_typer(control.app, name="control")


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"autodeco {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error, and debug logs.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass  # --debug is taken out of the arguments by main(), so that it may stand anywhere


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits.

    Status 0 is success, 2 an error the user can act on (bad input, bad usage), 130 a stop by Ctrl-C.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, format="%(name)s: %(message)s")
    logging.getLogger("autodeco").setLevel(logging.DEBUG if debug else logging.INFO)
    console = Console(stderr=True)
    try:
        status = app(args=arguments, standalone_mode=False, prog_name="autodeco")
    except typer.Exit as exit_request:
        status = exit_request.exit_code
    except (KeyboardInterrupt, typer.Abort):
        console.print("stopped. Long jobs go on where they were when the same command is run again.")
        status = 130
    except Exception as error:
        if debug:
            raise
        status = _report(error, console)
    sys.exit(status if isinstance(status, int) else 0)


def _report(error: Exception, console: Console) -> int:
    """Prints what a user can act on; anything else is a bug and keeps its traceback."""
    if isinstance(error, AutoDecoError):
        console.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 2
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        console.print(f"error: no space left on the disk while writing {error.filename or ''}.", style="red")
        return 2
    if hasattr(error, "show") and hasattr(error, "exit_code"):  # click's usage errors
        error.show()
        return int(error.exit_code)
    raise error
