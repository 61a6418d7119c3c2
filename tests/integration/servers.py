"""``autodeco serve`` as a process of its own, for the tests that are its clients."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

START_SECONDS = 300
API_KEY = "secret"
KEY = {"Authorization": f"Bearer {API_KEY}"}


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def started(model: Path, flags: list[str], log: Path, **environment: str) -> tuple[str, subprocess.Popen[bytes], Path]:
    """Starts a server with :data:`API_KEY` on a free port; returns when it answers, with its URL."""
    port = free_port()
    command = [sys.executable, "-c", "from autodeco.cli import main; main()", "serve", str(model)]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--api-key", API_KEY, *flags],
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + START_SECONDS
    while True:
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"the server did not start:\n{log.read_text()[-4000:]}")
        try:
            if httpx.get(f"{url}/health").status_code == 200:
                return url, process, log
        except httpx.TransportError:
            time.sleep(0.5)
