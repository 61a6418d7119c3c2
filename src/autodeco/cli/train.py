"""``autodeco train``: train decoding heads on a frozen base model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from autodeco.cli.options import training_values

_TRAINING = "What is trained"
_OPTIMISER = "Optimiser"


def command(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="Base model: hub id, folder, or smollm2-135m.")] = None,
    data: Annotated[str | None, typer.Option(help="JSONL file or hub id: prompt/completion or messages.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for heads, checkpoints and logs.")] = None,
    eval_data: Annotated[str | None, typer.Option(help="Held-out data for the evaluation loss.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE.yaml", help="Settings from a YAML file.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Published settings: --recipe list shows the names.")] = None,
    objective: Annotated[str | None, typer.Option(help="end_to_end or released.", rich_help_panel=_TRAINING)] = None,
    temperature_head: Annotated[
        bool | None,
        typer.Option("--temperature-head/--no-temperature-head", help="Train it?", rich_help_panel=_TRAINING),
    ] = None,
    top_p_head: Annotated[
        bool | None, typer.Option("--top-p-head/--no-top-p-head", help="Train it?", rich_help_panel=_TRAINING)
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Default 5e-6.", rich_help_panel=_OPTIMISER)] = None,
    max_steps: Annotated[int | None, typer.Option(help="Default 400.", rich_help_panel=_OPTIMISER)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Default 1.", rich_help_panel=_OPTIMISER)] = None,
    gradient_accumulation: Annotated[int | None, typer.Option(help="Default 32.", rich_help_panel=_OPTIMISER)] = None,
    max_length: Annotated[int | None, typer.Option(help="Default 16384 tokens.", rich_help_panel=_OPTIMISER)] = None,
    seed: Annotated[int | None, typer.Option(help="Default 0.", rich_help_panel=_OPTIMISER)] = None,
    hidden_state_store: Annotated[
        str | None, typer.Option(help="Train from stored hidden states: auto, on or off.", rich_help_panel=_TRAINING)
    ] = None,
    repair_store: Annotated[
        bool | None, typer.Option("--repair-store", help="Compute damaged parts of the store again.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="Of the base: auto, bfloat16, float32.")] = None,
    report_to: Annotated[list[str] | None, typer.Option(help="tensorboard, trackio or wandb.")] = None,
    skip_bad_rows: Annotated[bool | None, typer.Option("--skip-bad-rows", help="Leave bad rows out, counted.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other setting of the YAML file.")
    ] = None,
) -> None:
    """Train decoding heads on a frozen base model.

    Stopped and run again with the same settings, it goes on from the last checkpoint.

    \b
    Examples:
      autodeco train --model smollm2-135m --data rollouts/right.jsonl --output runs/heads
      autodeco train --config train.yaml --learning-rate 1e-4
      autodeco train --recipe r1-distill-qwen-7b --data rollouts.jsonl --output runs/r1 --report-to tensorboard
    """
    from autodeco.training import recipe_names, train, training_config

    console = Console()
    if recipe == "list":
        console.print("\n".join(recipe_names()))
        return
    values = training_values(context, "autodeco.training")
    settings = training_config(values, str(config) if config else "autodeco train")
    result = train(settings, say=lambda text: console.print(text, highlight=False, markup=False))
    if result.log:
        last = [entry for entry in result.log if "temperature_mean" in entry][-1]
        console.print(
            f"step {last['step']}: loss {last['loss']:.4f}, mean temperature {last['temperature_mean']:.3f} "
            f"(spread {last['temperature_std']:.3f}), mean top-p {last['top_p_mean']:.3f}",
            highlight=False,
        )
    console.print(f"heads saved in {result.output}", highlight=False)
    console.print(f'try them: autodeco generate {result.output} "Your prompt"', highlight=False)
