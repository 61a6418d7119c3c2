"""``autodeco generate``: answer one prompt, or a file of them, with the temperature of each token in colour."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from autodeco.cli.options import ConfigOption, DtypeOption
from autodeco.errors import DataError


def command(
    model: Annotated[str, typer.Argument(help="Heads' folder, merged or released checkpoint, or hub id.")],
    prompt: Annotated[str | None, typer.Argument(help="The prompt; '-' reads standard input.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="JSONL file with a 'prompt' (text or messages) a line.")] = None,
    output: Annotated[Path | None, typer.Option(help="With --prompts: JSONL file to append answers to.")] = None,
    base_model: Annotated[str | None, typer.Option(help="Use this base instead of the recorded one.")] = None,
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 256,
    temperature: Annotated[float, typer.Option(min=0, help="Multiplies the learned one; 0 is greedy.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    raw: Annotated[bool, typer.Option("--raw", help="Give the prompt as it is, without the chat template.")] = False,
    trace: Annotated[bool, typer.Option("--trace/--no-trace", help="Tint each token by its temperature.")] = True,
    trace_file: Annotated[Path | None, typer.Option(help="Also write the trace, for 'autodeco trace'.")] = None,
    dtype: DtypeOption = "auto",
    strategy: Annotated[str, typer.Option(help="Decode with this strategy in the heads' place.")] = "autodeco",
    config: ConfigOption = None,
) -> None:
    """Answer a prompt; the model chooses temperature and top-p for each token.

    \b
    Examples:
      autodeco generate runs/heads "Why is the sky blue?"
      autodeco generate runs/merged "Add 7 and 8." --temperature 0
      autodeco generate runs/heads "Add 7 and 8." --strategy default --trace-file default.jsonl
      autodeco generate runs/heads --prompts questions.jsonl --output answers.jsonl
    """
    from autodeco.serving.load import load_model_and_tokenizer
    from autodeco.strategies import get_strategy

    if (prompt is None) == (prompts is None):
        raise DataError("give either one prompt, or a file with --prompts.")
    if trace_file is not None and prompts is not None:
        raise DataError("--trace-file holds the trace of one prompt; give that instead of --prompts.")
    get_strategy(strategy)  # before the model is loaded
    console = Console()
    asked = [(0, prompt)] if prompts is None else list(_unanswered(prompts, output))
    if not asked:
        console.print("every prompt has an answer already.")
        return
    loaded, tokenizer = load_model_and_tokenizer(model, base_model, dtype=dtype)
    settings: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed, "raw": raw}
    for number, question in asked:
        if question == "-":
            question = typer.get_text_stream("stdin").read()
        with loaded.decode_with(strategy):
            answer, result = _answer(loaded, tokenizer, question, system, **settings)
            if trace_file is not None:
                header = {"name": model, "settings": {"seed": seed}, "temperature": temperature}
                _write_trace(trace_file, loaded, tokenizer, result, header)
        if output is not None:
            from autodeco.files import append_jsonl

            append_jsonl(output, [{"prompt_number": number, "prompt": question, **answer}])
        _show(console, answer, trace)


def _answer(
    model: Any,
    tokenizer: Any,
    prompt: Any,
    system: str | None,
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    raw: bool,
) -> tuple[dict[str, Any], Any]:
    """Text, token ids, pieces, temperatures and top-p of one answer, and what ``generate`` returned."""
    import torch

    from autodeco.cli.prompts import prompt_token_ids
    from autodeco.trace.text import token_pieces

    ids = torch.tensor([prompt_token_ids(tokenizer, prompt, system, raw=raw)], device=model.device)
    torch.manual_seed(seed)
    sampling = {"do_sample": False} if temperature == 0 else {"temperature": temperature}
    result = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_new_tokens, trace=True, **sampling
    )
    new_ids = result.sequences[0, ids.shape[1] :].tolist()
    answer = {
        "text": tokenizer.decode(new_ids, skip_special_tokens=True),
        "token_ids": new_ids,
        "pieces": token_pieces(tokenizer, new_ids),
        "temperature": [round(value, 4) for value in result.temperature[0].tolist()],
        "top_p": [round(value, 4) for value in result.top_p[0].tolist()],
    }
    return answer, result


def _write_trace(path: Path, model: Any, tokenizer: Any, result: Any, header: dict[str, Any]) -> None:
    from autodeco.trace.format import write_trace
    from autodeco.trace.make import trace_generation

    prompt_ids = result.sequences[0, : -result.temperature.shape[1]].tolist()
    write_trace(path, trace_generation(model, tokenizer, result, prompt_ids, **header))


def _show(console: Console, answer: dict[str, Any], trace: bool) -> None:
    from autodeco.trace.terminal import legend, tinted
    from autodeco.trace.text import visible

    if not trace or not console.is_terminal:
        console.print(visible(answer["text"]), markup=False, highlight=False, soft_wrap=True)
        return
    console.print(tinted(answer["pieces"], answer["temperature"]))
    count = len(answer["token_ids"])
    mean_temperature = sum(answer["temperature"]) / count
    mean_top_p = sum(answer["top_p"]) / count
    console.print(legend(), f"  mean T {mean_temperature:.2f}, mean P {mean_top_p:.2f}, {count} tokens")


def _unanswered(prompts: Path, output: Path | None) -> Iterator[tuple[int, Any]]:
    """Numbered prompts of a file that ``output`` does not answer yet."""
    from autodeco.files import recover_jsonl

    done: set[int] = set()
    if output is not None and output.exists():
        recover_jsonl(output)
        done = {json.loads(line)["prompt_number"] for line in output.read_text(encoding="utf-8").splitlines()}
    from autodeco.files import read_jsonl

    for number, row in read_jsonl(prompts):
        if "prompt" not in row:
            raise DataError(f"{prompts}:{number}: needs the key 'prompt', found {', '.join(sorted(row)) or '(none)'}.")
        if number not in done:
            yield number, row["prompt"]
