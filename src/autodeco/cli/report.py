"""``autodeco report``: tables and figures from evaluation results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def command(
    results: Annotated[list[Path], typer.Argument(help="Folders or files that autodeco eval wrote.")],
    output: Annotated[
        Path | None, typer.Option(help="Folder for the report; by default report/ in the first results folder.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Which model, where the results are of several.")] = None,
    training: Annotated[
        list[Path] | None, typer.Option(help="Output folder of autodeco train, to draw its curves; may be repeated.")
    ] = None,
    resamples: Annotated[int, typer.Option(min=100, help="Bootstrap draws of each interval.")] = 10_000,
) -> None:
    """Write an HTML page and Markdown: Pass@1 and Pass@k, paired differences, frontier, diagnosis, cost, training.

    \b
    Examples:
      autodeco report runs/eval
      autodeco report runs/day1 runs/day2 --output report
      autodeco report runs/eval/results.parquet --model runs/heads
      autodeco report runs/eval --training runs/heads
    """
    from autodeco.evaluation.report import write_report

    console = Console()
    first = results[0] if results[0].is_dir() else results[0].parent
    page = write_report(results, output or first / "report", model=model, training=training or (), resamples=resamples)
    console.print(f"report: {page} (and {page.with_name('report.md').name} beside it)", highlight=False, markup=False)
