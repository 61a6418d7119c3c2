"""``autodeco control train``: teach the heads to follow decoding commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from autodeco.cli.options import training_values


def command(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option(metavar="FILE.yaml", help="Settings from a YAML file.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Measured settings: --recipe list shows the names.")] = None,
    model: Annotated[str | None, typer.Option(help="Base model: hub id, folder, or smollm2-135m.")] = None,
    data: Annotated[str | None, typer.Option(help="Rollouts with prompts as messages: JSONL file or hub id.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for heads, checkpoints and logs.")] = None,
    heads: Annotated[str | None, typer.Option(help="Heads to start from instead of new ones.")] = None,
    commands: Annotated[Path | None, typer.Option(help="Own commands, a YAML file.")] = None,
    eval_data: Annotated[str | None, typer.Option(help="Held-out rollouts for the evaluation loss.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Default 1e-3.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Default 400.")] = None,
    seed: Annotated[int | None, typer.Option(help="Default 0.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other setting of the YAML file.")
    ] = None,
) -> None:
    """Train heads on a frozen base to follow decoding commands in the prompt; with lora_rank, an adapter on it, too.

    Stopped and run again with the same settings, it goes on from the last checkpoint.

    \b
    Examples:
      autodeco rollout --model smollm2-135m --task open-prompts --samples 4 --output runs/open
      autodeco control train --recipe prompt-summary --model smollm2-135m --heads runs/heads \\
        --data runs/open/all.jsonl --output runs/control
      autodeco control train --config control.yaml --heads runs/heads --set positions=[system]
      autodeco control train --config control.yaml --output runs/lora --set lora_rank=16
    """
    from autodeco.control.config import control_config
    from autodeco.control.training import train_control
    from autodeco.training import recipe_names

    console = Console()
    if recipe == "list":
        console.print("\n".join(recipe_names("autodeco.control")))
        return
    values = training_values(context, "autodeco.control")
    settings = control_config(values, str(config) if config else "autodeco control train")
    result = train_control(settings, say=lambda text: console.print(text, highlight=False, markup=False))
    if steps := [entry for entry in result.log if "temperature_mean" in entry]:
        console.print(_summary(steps[-1]), highlight=False, markup=False, soft_wrap=True)
    what = "heads and adapter" if settings.lora_rank else "heads"
    console.print(f"{what} saved in {result.output}", highlight=False, markup=False, soft_wrap=True)


def _summary(entry: dict[str, Any]) -> str:
    text = f"step {entry['step']}: without a command mean temperature {entry['temperature_mean']:.3f}, "
    text += f"mean top-p {entry['top_p_mean']:.3f}"
    for head, name in (("temperature", "T"), ("top_p", "P")):
        if f"{head}_in_order" in entry:
            text += f"; {name} in the commanded order in {entry[f'{head}_in_order']:.0%} of the last step's pairs"
    return text
