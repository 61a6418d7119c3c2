"""``autodeco serve`` under load: 64 clients for ten minutes, and what became of every request.

Clients ask for completions and chats of mixed lengths, stream, go away half-way, send bodies that make no sense,
prompts that are too long, options that do not exist. Counted: answers by kind of request, hangs, the server's memory,
and what the engine still holds at the end. Runs in vLLM's own environment (``make vllm``):

    .venv-vllm/bin/python benchmarks/server_load.py
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psutil
import torch
from harness import save, spread

from autodeco import AutoDecoForCausalLM
from autodeco.bundled import BUNDLED_MODEL, resolve_model

CLIENTS = 64
MINUTES = 10.0
MAX_MODEL_LEN = 512
# Small enough that all of its pages have been written to before the second half: memory that the operating system
# hands out at first use would look like a leak.
CACHE_BYTES = 1 << 30
HANG_SECONDS = 180
# Kind of request: its share of all.
KINDS = {
    "completion": 30,
    "chat": 20,
    "stream": 15,
    "traced": 5,
    "option": 5,
    "several (n=3)": 5,
    "grammar": 3,
    "gone half-way": 10,
    "malformed JSON": 2,
    "wrong type": 2,
    "unknown option": 1,
    "too long": 2,
}
WORDS = "the story of a fox who counted to seven and went home because rain was near".split()  # noqa: SIM905


class Load:
    """64 clients, and the tally of what they saw."""

    def __init__(self, url: str, seconds: float) -> None:
        self.url = url
        self.deadline = time.monotonic() + seconds
        self.outcomes: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
        self.tokens = 0
        self.latencies: list[float] = []

    async def client(self, number: int) -> None:
        """Sends one request after the other until the time is over."""
        draw = random.Random(number)
        async with httpx.AsyncClient(base_url=self.url, timeout=HANG_SECONDS) as http:
            while time.monotonic() < self.deadline:
                kind = draw.choices(list(KINDS), weights=list(KINDS.values()))[0]
                started = time.monotonic()
                try:
                    outcome = await self.send(http, kind, draw)
                except httpx.TimeoutException:
                    outcome = "hang"
                except httpx.TransportError as error:
                    outcome = type(error).__name__
                self.outcomes[kind][outcome] += 1
                if kind == "completion" and outcome == "200":
                    self.latencies.append(time.monotonic() - started)

    async def send(self, http: httpx.AsyncClient, kind: str, draw: random.Random) -> str:
        """One request; returns what became of it."""
        prompt = " ".join(draw.choices(WORDS, k=draw.choice([5, 30, 120, 300])))
        body: dict[str, Any] = {"model": "heads", "prompt": prompt, "max_tokens": draw.choice([1, 16, 48, 96])}
        if kind == "chat":
            body = {**body, "messages": [{"role": "user", "content": body.pop("prompt")}]}
            return await self.count(await http.post("/v1/chat/completions", json=body))
        if kind in ("stream", "gone half-way"):
            return await self.stream(http, body, leave=kind == "gone half-way")
        if kind == "malformed JSON":
            return str((await http.post("/v1/completions", content=b'{"model": "heads", "prompt": ')).status_code)
        if kind == "traced":
            name = f"t{draw.getrandbits(64)}"
            answer = await http.post("/v1/completions", json={**body, "vllm_xargs": {"autodeco_trace": name}})
            traced = await http.get(f"/v1/autodeco/traces/{name}")
            return f"{await self.count(answer)}, trace {traced.status_code}"
        body |= {
            "option": {"vllm_xargs": {"autodeco_max_temperature": 0.5}},
            "several (n=3)": {"n": 3},
            "grammar": {"structured_outputs": {"regex": "[0-9]{3}"}},
            "wrong type": {"max_tokens": "many"},
            "unknown option": {"vllm_xargs": {"autodeco_temprature": 1}},
            "too long": {"prompt": "word " * 3 * MAX_MODEL_LEN},
        }.get(kind, {})
        return await self.count(await http.post("/v1/completions", json=body))

    async def count(self, answer: httpx.Response) -> str:
        """The status of an answer, whose tokens are added."""
        if answer.status_code == 200:
            self.tokens += answer.json()["usage"]["completion_tokens"]
        return str(answer.status_code)

    async def stream(self, http: httpx.AsyncClient, body: dict[str, Any], *, leave: bool) -> str:
        """A stream, read to its end or left after three pieces."""
        body = {**body, "stream": True, "max_tokens": 96 if leave else body["max_tokens"]}
        pieces = 0
        async with http.stream("POST", "/v1/completions", json=body) as answer:
            async for line in answer.aiter_lines():
                if line == "data: [DONE]":
                    return str(answer.status_code)
                pieces += line.startswith("data: ")
                if leave and pieces > 3:
                    return "left"
        return f"{answer.status_code}, cut off"


async def watch(server: psutil.Process, load: Load, memory: list[dict[str, float]]) -> None:
    """Private memory of each of the server's processes, in MB, every ten seconds."""
    while time.monotonic() < load.deadline:
        found: dict[str, float] = {}
        for process in [server, *server.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                name = process.name()
                found[name] = found.get(name, 0.0) + process.memory_full_info().uss / 2**20
        memory.append(found)
        await asyncio.sleep(10)


def growth(series: list[float]) -> float:
    """Slope of the second half of a series by least squares, in MB a minute."""
    half = series[len(series) // 2 :]
    minutes = [index / 6 for index in range(len(half))]
    return statistics.linear_regression(minutes, half).slope if len(half) > 2 else math.nan


async def run(load: Load, server: psutil.Process, memory: list[dict[str, float]]) -> None:
    watching = asyncio.create_task(watch(server, load, memory))
    await asyncio.gather(*(load.client(number) for number in range(CLIENTS)))
    watching.cancel()


def start(heads: Path, log: Path, *, bare: bool) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", "from autodeco.cli import main; main()", "serve", str(heads)]
    if bare:
        command = [sys.executable, "-m", "autodeco.serving.vllm.launch", resolve_model(BUNDLED_MODEL)]
        command += ["--served-model-name", "heads"]
    command += ["--kv-cache-memory-bytes", str(CACHE_BYTES)]
    command += ["--port", str(port), "--max-model-len", str(MAX_MODEL_LEN), "--dtype", "float32", "--enforce-eager"]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    while process.poll() is None:
        try:
            httpx.get(f"{url}/health")
        except httpx.TransportError:
            time.sleep(0.5)
        else:
            return process, url
    sys.exit(f"the server did not start:\n{log.read_text()[-3000:]}")


def held(url: str) -> dict[str, float]:
    """Sequences that the engine still runs or keeps waiting, and the share of its cache in use."""
    text = httpx.get(f"{url}/metrics").text
    names = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
    found = {name: re.findall(rf"^vllm:{name}\{{.*\}} (\S+)$", text, re.MULTILINE) for name in names}
    return {name: sum(map(float, values)) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="half a minute, and unsaved: only whether it runs")
    parser.add_argument("--bare", action="store_true", help="vLLM without heads, unsaved: what its own memory does")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="how long; unsaved if not %(default)g")
    arguments = parser.parse_args()
    quick = arguments.quick
    minutes = 0.5 if quick else arguments.minutes
    with tempfile.TemporaryDirectory() as name:
        torch.manual_seed(0)
        heads = Path(name) / "heads"
        AutoDecoForCausalLM.from_base(resolve_model(BUNDLED_MODEL), dtype="float32").save_pretrained(heads)
        process, url = start(heads, Path(name) / "log.txt", bare=arguments.bare)
        load, memory = Load(url, minutes * 60), []
        asyncio.run(run(load, psutil.Process(process.pid), memory))
        time.sleep(5)
        left = held(url)
        alive = process.poll() is None
        process.terminate()
        status = process.wait(timeout=120)
    rows = [
        {"requests": kind, "outcomes": ", ".join(f"{count} × {outcome}" for outcome, count in sorted(counts.items()))}
        for kind, counts in load.outcomes.items()
    ]
    totals = [sum(found.values()) for found in memory]
    settings = {
        "clients": CLIENTS,
        "minutes": minutes,
        "requests": sum(sum(counts.values()) for counts in load.outcomes.values()),
        "tokens_per_second": load.tokens / (minutes * 60),
        "completion_latency_s": str(spread(load.latencies)),
        "memory_mb": {
            **{f"at {100 * i // 4} %": round(totals[i * (len(totals) - 1) // 4]) for i in range(5)},
            "growth in the second half, MB a minute": round(growth(totals), 2),
        },
        "memory_mb_by_process": {name: [round(found.get(name, 0)) for found in memory[::6]] for name in memory[-1]},
        "held_at_the_end": left,
        "alive_at_the_end": alive,
        "status_after_sigterm": status,
    }
    rows += [{"requests": f"({name})", "outcomes": str(value)} for name, value in settings.items()]
    unsaved = arguments.bare or minutes != MINUTES
    save("server_load", "autodeco serve under load, vLLM on CPU", rows, quick=unsaved, **settings)


if __name__ == "__main__":
    main()
