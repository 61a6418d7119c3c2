"""``autodeco demo``: the bundled model learns to decode itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from autodeco.cli.options import ConfigOption


def command(
    output: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("demo-run"),
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 60,
    train_problems: Annotated[int, typer.Option(min=1, help="Problems a task to sample trajectories of.")] = 40,
    train_samples: Annotated[int, typer.Option(min=1, help="Trajectories a problem.")] = 5,
    test_problems: Annotated[int, typer.Option(min=1, help="Held-out problems a task.")] = 40,
    test_samples: Annotated[int, typer.Option(min=1, help="Answers a held-out problem and strategy.")] = 3,
    seed: Annotated[int, typer.Option(help="Of everything.")] = 0,
    config: ConfigOption = None,
) -> None:
    """Train heads on the bundled model for a few minutes, then decode side by side with default sampling.

    Stopped and run again, it goes on where it was; a finished demo prints its results again.

    \b
    Examples:
      autodeco demo
      autodeco demo --output /tmp/demo --steps 300 --train-samples 20
    """
    from autodeco.demo import DemoSettings, run_demo

    settings = DemoSettings(
        train_problems=train_problems,
        train_samples=train_samples,
        test_problems=test_problems,
        test_samples=test_samples,
        steps=steps,
        seed=seed,
    )
    run_demo(output, settings, Console())
