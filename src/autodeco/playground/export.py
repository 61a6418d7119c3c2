"""What the playground hands out of a request: its traces, and the Python that draws the same answers again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from autodeco.files import atomic_write_text
from autodeco.playground.draw import Answer
from autodeco.playground.model import LocalModel
from autodeco.playground.request import Request, Way
from autodeco.trace.format import write_trace

SCRIPT_FILE = "reproduce.py"

_SCRIPT = '''\
"""Draws what the playground drew: the same model, prompt, seed and length."""

import torch

from autodeco.rollouts.sampler import encode
{load}
messages = {messages}
prompt = torch.tensor([encode(tokenizer, messages)], device=model.device)


def answer(**options):
    torch.manual_seed({seed})
    mask = torch.ones_like(prompt)
    ids = model.generate(prompt, attention_mask=mask, max_new_tokens={longest}, **options)
    return tokenizer.decode(ids[0, prompt.shape[1] :], skip_special_tokens=True)


{answers}
'''


def script(model: LocalModel, request: Request) -> str:
    """Python that prints the answers to a request, in its order.

    Texts are written as Python literals in ASCII, so that nothing in them is code.
    """
    answers = "\n".join(map(_answer, request.ways))
    messages = [dict(message) for message in request.messages]
    return _SCRIPT.format(
        load=model.code, messages=ascii(messages), seed=request.seed, longest=request.max_new_tokens, answers=answers
    )


def _answer(way: Way) -> str:
    if way.decoding is not None:
        return f"print(answer(decoding={way.decoding!r}))"
    if way.strategy == "autodeco":
        return "print(answer())"
    return f"with model.decode_with({way.strategy!a}):\n    print(answer())"


def write_files(folder: Path, answers: Sequence[Answer], code: str) -> list[str]:
    """Writes a trace file for each answer that has a trace, and the script.

    Raises:
        RunFolderError: the disk is full, or the folder cannot be written.
    """
    paths = []
    for number, answer in enumerate(answers, start=1):
        if answer.trace is not None:
            paths.append(folder / f"{number}-{_file_name(answer.way.name)}.jsonl")
            write_trace(paths[-1], answer.trace)
    atomic_write_text(folder / SCRIPT_FILE, code)
    return [str(path) for path in (*paths, folder / SCRIPT_FILE)]


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")[:60]
