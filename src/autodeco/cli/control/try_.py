"""``autodeco control try``: one prompt without and with a command, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from autodeco.cli.options import BaseModelOption, ConfigOption, DtypeOption

if TYPE_CHECKING:
    from autodeco.control.comparison import Decoded


def command(
    model: Annotated[str, typer.Argument(help="Heads, or a merged or released checkpoint.")],
    prompt: Annotated[str, typer.Argument(help="The task.")],
    command: Annotated[str, typer.Argument(help="The decoding command, in plain words.")],
    position: Annotated[str, typer.Option(help="Of the command: system, before or after the prompt.")] = "after",
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest text, in tokens.")] = 128,
    seed: Annotated[int, typer.Option(help="Of the sampling.")] = 0,
    base_model: BaseModelOption = None,
    dtype: DtypeOption = "auto",
    config: ConfigOption = None,
) -> None:
    """Decode a prompt without and with a command: both texts beside each other, with their temperature and top-p.

    \b
    Examples:
      autodeco control try runs/control "Name a colour." "Surprise me."
      autodeco control try runs/control "Name a colour." "No randomness at all." --position system
    """
    from autodeco.control.comparison import decode_versions
    from autodeco.serving.load import load_model_and_tokenizer

    loaded, tokenizer = load_model_and_tokenizer(model, base_model, dtype=dtype)
    plain, commanded = decode_versions(
        loaded,
        tokenizer,
        prompt,
        {"command": command},
        position=position,
        system=system,
        max_new_tokens=max_new_tokens,
        seed=seed,
    )
    _show(Console(), plain, commanded)


def _show(console: Console, plain: Decoded, commanded: Decoded) -> None:
    from autodeco.trace.terminal import legend, tinted
    from autodeco.trace.text import visible

    table = Table("no command", visible(commanded.command or ""), expand=True, show_lines=True)
    table.add_row(*(tinted(one.pieces, one.temperature) for one in (plain, commanded)))
    table.add_row(*(_means(one) for one in (plain, commanded)))
    console.print(table)
    console.print(legend())
    console.print(
        f"shift: T {commanded.mean_temperature - plain.mean_temperature:+.3f}, "
        f"P {commanded.mean_top_p - plain.mean_top_p:+.3f} (one text each; autodeco control eval measures over many)",
        highlight=False,
    )


def _means(one: Decoded) -> str:
    entropy = sum(one.entropy) / len(one.entropy)
    return (
        f"mean T {one.mean_temperature:.3f}, mean P {one.mean_top_p:.3f}, entropy {entropy:.2f} nats, "
        f"{len(one.temperature)} tokens"
    )
