"""``autodeco eval``: strategies × tasks × samples, each completion judged; what ``autodeco report`` reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from autodeco.cli.options import was_given
from autodeco.errors import ConfigError

if TYPE_CHECKING:
    from autodeco.evaluation.drawing import Progress

_QUICK = "Without a configuration file"


def command(
    context: typer.Context,
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG.yaml]", help="Settings; flags win.")] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Base, or a model with heads; repeatable.", rich_help_panel=_QUICK)
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="Benchmark, JSONL file, ...; repeatable.", rich_help_panel=_QUICK)
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The task's local file or folder.", rich_help_panel=_QUICK)] = None,
    problems: Annotated[
        int | None, typer.Option(help="Of the task, chosen by the seed; default: all.", rich_help_panel=_QUICK)
    ] = None,
    split: Annotated[str | None, typer.Option(help="Of the task; default: test.", rich_help_panel=_QUICK)] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(help="default, autodeco, static:temperature=0.7, oracle, ...; repeatable."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the run.")] = None,
    samples: Annotated[int | None, typer.Option(help="Completions of each problem and strategy. Default 1.")] = None,
    block: Annotated[int | None, typer.Option(help="Samples a problem that a strategy draws in a turn.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of problems and sampling. Default 0.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Longest completion. Default 1024 tokens.")] = None,
    engine: Annotated[str | None, typer.Option(help="vllm, transformers or auto.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Of the model: auto, bfloat16, float16 or float32.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Completions generated together. Default 64.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Longest prompt and completion, for vLLM.")] = None,
    measure_on: Annotated[
        Path | None, typer.Option(help="Training trajectories, for mean-shift and shuffled without numbers.")
    ] = None,
) -> None:
    """Evaluate decoding strategies: every completion is judged and on disk at once.

    Stopped and run again, it goes on where it was. Strategies, samples, tasks and models can be added later.

    \b
    Examples:
      autodeco eval eval.yaml
      autodeco eval eval.yaml --samples 16
      autodeco eval --model runs/heads --task ifeval --data ifeval.jsonl --strategy default --strategy autodeco \\
          --samples 4 --output runs/eval
      autodeco report runs/eval
    """
    from autodeco.evaluation.config import evaluation_config
    from autodeco.evaluation.run import evaluate
    from autodeco.evaluation.summary import summaries
    from autodeco.training.config import load_yaml

    console = Console()
    values: dict[str, Any] = load_yaml(config) if config is not None else {}
    values |= _given(context)
    settings = evaluation_config(values, str(config) if config else "autodeco eval")

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    with _bar(console) as on_progress:
        results = evaluate(settings, on_progress=on_progress, say=say)
    for summary in summaries(settings.output):
        table = Table("strategy", *summary.tasks, title=f"{summary.model}: Pass@1 (95 % interval), samples a problem")
        for row in summary.rows:
            table.add_row(*(Text(cell) for cell in row))
        console.print(table)
        for line in summary.differences:
            say(line)
    say(f"results: {results}")
    say(f"tables and figures: autodeco report {settings.output}")


def _given(context: typer.Context) -> dict[str, Any]:
    """The flags of the command line, as the configuration file would say it."""
    flags = {name: value for name, value in context.params.items() if was_given(context, name)}
    flags.pop("config", None)
    renamed = {"model": "models", "strategy": "strategies"}
    values = {renamed.get(name, name): value for name, value in flags.items()}
    of_task = {name: values.pop(name) for name in ("data", "problems", "split") if name in values}
    names = values.pop("task", None)
    if names is None:
        if of_task:
            raise ConfigError(f"--{next(iter(of_task))} is of a --task. Name one, or say it in the configuration file.")
        return values
    if "data" in of_task and len(names) > 1:
        raise ConfigError("--data is of one --task. For several, name each one's data in a configuration file.")
    return values | {"tasks": [{"name": name, **of_task} for name in names]}


@contextmanager
def _bar(console: Console) -> Iterator[Callable[[Progress], None]]:
    from autodeco.progress import counting

    with counting(console, "evaluating") as show:
        last = ""

        def on_progress(progress: Progress) -> None:
            nonlocal last
            if not console.is_terminal and progress.what != last:  # a log file shows no bar until the end
                last = progress.what
                console.print(f"{progress.done:,} of {progress.total:,}: {last}", highlight=False, markup=False)
            right = f" · {progress.right / progress.judged:.0%} right" if progress.judged else ""
            show(progress.done, progress.total, f"{progress.what}{right}")

        yield on_progress
