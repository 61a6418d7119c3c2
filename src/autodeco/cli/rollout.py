"""``autodeco rollout``: sample a task's problems, verify the answers, keep the right ones as training data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from autodeco.cli.options import ConfigOption, parse_settings


def command(
    model: Annotated[str, typer.Option(help="Base model, or a model with heads: hub id, folder, smollm2-135m.")],
    task: Annotated[
        str, typer.Option(help="A benchmark (gsm8k, ...), demo-sums, reasoning-gym/FAMILY, or a JSONL file.")
    ],
    output: Annotated[Path, typer.Option(help="Folder for all.jsonl (every sample) and right.jsonl (to train on).")],
    problems: Annotated[int, typer.Option(min=1, help="Number of different problems.")] = 100,
    samples: Annotated[int, typer.Option(min=1, help="Completions of each problem.")] = 8,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "train",
    data: Annotated[Path | None, typer.Option(help="A benchmark's local file or folder, instead of the hub.")] = None,
    verifier: Annotated[str | None, typer.Option(help="Of a JSONL task: number, exact, choice or math.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest completion, in tokens.")] = 256,
    batch_size: Annotated[int, typer.Option(min=1, help="Completions generated together.")] = 64,
    max_length: Annotated[
        int | None, typer.Option(min=2, help="Longest prompt and completion together that vLLM reserves memory for.")
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(help="default, autodeco, static:temperature=0.7, ...; autodeco where there are heads."),
    ] = None,
    engine: Annotated[str, typer.Option(help="vllm, transformers, or auto: vLLM where it is installed.")] = "auto",
    log_probs: Annotated[bool, typer.Option(help="Write each token's log-probability into all.jsonl.")] = True,
    most_per_problem: Annotated[int | None, typer.Option(min=1, help="Keep at most this many of a problem.")] = None,
    most_tokens: Annotated[int | None, typer.Option(min=1, help="Keep no longer completions, in tokens.")] = None,
    seed: Annotated[int, typer.Option(help="Of problems and sampling.")] = 0,
    dtype: Annotated[str, typer.Option(help="auto, bfloat16 or float32.")] = "auto",
    base: Annotated[str | None, typer.Option(help="Base model, instead of the one that heads record.")] = None,
    task_settings: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE of a reasoning-gym family or a task of your own.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Sample trajectories, verify them, and keep the right ones as training data.

    Stopped and run again with the same options, it goes on where it was.

    \b
    Examples:
      autodeco rollout --model smollm2-135m --task demo-sums --output runs/rollouts
      autodeco rollout --model smollm2-135m --task reasoning-gym/chain_sum --set max_terms=3 --output runs/sums
      autodeco rollout --model Qwen/Qwen3-0.6B --task questions.jsonl --samples 16 --output runs/rollouts
      autodeco rollout --model runs/heads --task gsm8k --engine vllm --output runs/second-round
      autodeco train --model smollm2-135m --data runs/rollouts/right.jsonl --output runs/heads
    """
    from autodeco.checkpoint.source import weights_hash
    from autodeco.files import read_jsonl
    from autodeco.progress import counting
    from autodeco.rollouts import RolloutSettings, finished_rollout, rollout, write_kept
    from autodeco.serving.checkpoint import has_heads
    from autodeco.serving.samplers import chosen_engine, open_sampler
    from autodeco.tasks import get_task

    console = Console()
    chosen = get_task(task, data=data, verifier=verifier, settings=parse_settings(task_settings or []))
    settings = RolloutSettings(
        problems=problems,
        samples_per_problem=samples,
        split=split,
        seed=seed,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        strategy=strategy or ("autodeco" if has_heads(model) else "default"),
        log_probs=log_probs,
    )
    path = output / "all.jsonl"
    state = {"weights": weights_hash(model), "base": base or "", "dtype": dtype}
    engine = chosen_engine(engine)
    summary = finished_rollout(chosen, path, settings, model_name=model, model_state=state, engine=engine)
    if summary is None:
        with (
            open_sampler(
                model, base=base, engine=engine, dtype=dtype, batch_size=batch_size, max_length=max_length
            ) as sampler,
            counting(console, "sampling") as progress,
        ):
            summary = rollout(
                chosen, sampler, path, settings, model_name=model, model_state=state, on_progress=progress
            )
    else:
        console.print(f"{path} is finished; nothing is sampled", highlight=False, soft_wrap=True)
    low, high = summary.accuracy_interval
    console.print(
        f"{summary.correct} of {summary.samples} right: {summary.accuracy:.1%} (95 % interval {low:.1%} to "
        f"{high:.1%}), {summary.mean_tokens:.1f} tokens on average.",
        highlight=False,
    )
    if summary.errors:
        console.print(f"{summary.errors} could not be verified, and count neither as right nor as wrong.")
    kept = write_kept((row for _, row in read_jsonl(path)), output / "right.jsonl", most_per_problem, most_tokens)
    console.print(f"{kept} kept in {output / 'right.jsonl'}", highlight=False, soft_wrap=True)
