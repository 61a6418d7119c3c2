"""What the playground hands out of a request: its traces, and the Python that draws the same answers again."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autodeco.files import atomic_write_text
from autodeco.playground.draw import Answer
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


_SERVER_SCRIPT = '''\
"""Asks the server what the playground asked: the same model, prompt, seed and length."""
{key}
import httpx

URL = {url}


def answer(body):
    reply = httpx.post(URL, json=body{headers}, timeout=600).raise_for_status()
    return reply.json()["choices"][0]["message"]["content"]


{answers}
'''


def script(load: str, request: Request) -> str:
    """Python that loads a model and prints its answers to a request, in the request's order.

    Texts are written as Python literals in ASCII, so that nothing in them is code.

    Args:
        load: Python that loads ``model`` and ``tokenizer``.
        request: what was asked.
    """
    answers = "\n".join(map(_answer, request.ways))
    messages = [dict(message) for message in request.messages]
    return _SCRIPT.format(
        load=load, messages=ascii(messages), seed=request.seed, longest=request.max_new_tokens, answers=answers
    )


def server_script(url: str, bodies: Sequence[Mapping[str, Any]], *, with_key: bool) -> str:
    """Python that sends a server one request after the other and prints its answers. No key is written into it."""
    return _SERVER_SCRIPT.format(
        key="\nimport os\n" if with_key else "",
        url=ascii(f"{url}/v1/chat/completions"),
        headers=', headers={"Authorization": "Bearer " + os.environ["VLLM_API_KEY"]}' if with_key else "",
        answers="\n".join(f"print(answer({dict(body)!a}))" for body in bodies),
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
