"""``autodeco control show``: T and P token by token under no, a low and a high command, as a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from autodeco.cli.options import BaseModelOption, ConfigOption, DtypeOption


def command(
    model: Annotated[str, typer.Argument(help="Heads, or a merged or released checkpoint.")],
    prompt: Annotated[str, typer.Argument(help="The task.")],
    output: Annotated[Path, typer.Option(help="Figure to write: .svg or .png.")] = Path("control.svg"),
    low: Annotated[str | None, typer.Option(help="The low-diversity command; default: the paper's.")] = None,
    high: Annotated[str | None, typer.Option(help="The high-diversity command; default: the paper's.")] = None,
    position: Annotated[str, typer.Option(help="Of the commands: system, before or after the prompt.")] = "after",
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest text, in tokens.")] = 128,
    seed: Annotated[int, typer.Option(help="Of the sampling.")] = 0,
    base_model: BaseModelOption = None,
    dtype: DtypeOption = "auto",
    config: ConfigOption = None,
) -> None:
    """Draw temperature and top-p of each token without a command, with a low and with a high one (Figure 5).

    Works with any heads: on heads that were never trained on commands it shows whether the effect emerged by itself.

    \b
    Examples:
      autodeco control show runs/heads "Write a short story about a lost key."
      autodeco control show runs/control "Explain gravity." --high "Surprise me." --output gravity.png
    """
    from autodeco.control.comparison import decode_versions, published_commands
    from autodeco.control.figure import check_suffix, draw_panels
    from autodeco.evaluation.report.figures import altair
    from autodeco.serving.load import load_model_and_tokenizer

    check_suffix(output)
    altair()  # before the model is loaded
    own = {name: text for name, text in (("low", low), ("high", high)) if text is not None}
    commands = published_commands() | own
    loaded, tokenizer = load_model_and_tokenizer(model, base_model, dtype=dtype)
    versions = decode_versions(
        loaded,
        tokenizer,
        prompt,
        commands,
        position=position,
        system=system,
        max_new_tokens=max_new_tokens,
        seed=seed,
    )
    draw_panels(versions, output)
    console = Console()
    for one in versions:
        means = f"mean T {one.mean_temperature:.3f}, mean P {one.mean_top_p:.3f}, {len(one.temperature)} tokens"
        console.print(f"{one.name}: {means}", highlight=False, markup=False)
    console.print(f"figure: {output}", highlight=False, markup=False, soft_wrap=True)
