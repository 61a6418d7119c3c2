"""Asks math-verify whether answers are equal, from any thread and never for longer than :data:`SECONDS`.

One worker process serves all questions of a process; it is started on the first and started again if it is lost.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autodeco.errors import MissingDependencyError
from autodeco.tasks.mathematics.prepare import candidates, gold_text
from autodeco.tasks.sandbox.run import ENVIRONMENT, readable_paths, unsupported

#: Longest time for one completion: beyond math-verify's own limits, for what these cannot interrupt.
SECONDS = 20.0
_STARTING_SECONDS = 60.0
_WORKER = Path(__file__).with_name("worker.py")


@dataclass(frozen=True)
class MathVerdict:
    """What math-verify found.

    Attributes:
        correct: whether the answers are equal; ``False`` where that could not be decided in time, as in math-verify.
        answer: the completion's answer as SymPy writes it, ``None`` if there is none.
        timed_out: whether the worker had to be killed.
    """

    correct: bool
    answer: str | None
    timed_out: bool = False


def check_math_verify() -> None:
    """Raises :class:`MissingDependencyError` if math-verify is not installed."""
    if importlib.util.find_spec("math_verify") is None:
        raise MissingDependencyError(
            "mathematical answers are compared by math-verify, which is not installed. Install it with: "
            'pip install "autodeco[tasks]"'
        )


def compare(answer: str, completion: str) -> MathVerdict:
    """Whether a completion's final answer equals the right one.

    Args:
        answer: the right answer in LaTeX, without delimiters.
        completion: the model's text; its last box counts, or its last formula or number if it has no box.

    Raises:
        MissingDependencyError: math-verify is not installed.
        ValueError: the right answer cannot be read.
        RuntimeError: the worker process does not start.
    """
    check_math_verify()
    texts = candidates(completion)
    if not texts:
        return MathVerdict(False, None)
    try:
        reply = _worker.ask({"gold": gold_text(answer), "texts": texts})
    except TimeoutError:
        return MathVerdict(False, None, timed_out=True)
    if "error" in reply:
        raise ValueError(str(reply["error"]))
    return MathVerdict(bool(reply["correct"]), reply["answer"])


class _Worker:
    """The worker process and the lock around it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._answered = False

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Sends one question and waits for its answer.

        Raises:
            TimeoutError: no answer in time, or the worker died of it (memory); the next question starts it again.
        """
        line = (json.dumps(question) + "\n").encode()
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            try:
                process.stdin.write(line)
                process.stdin.flush()
            except BrokenPipeError:  # the thread that started it has ended, and it with that thread
                self.stop()
                process = self._running()
                assert process.stdin is not None
                process.stdin.write(line)
                process.stdin.flush()
            limit = SECONDS if self._answered else SECONDS + _STARTING_SECONDS
            reply = _read_line(process, limit)
            if not reply.endswith(b"\n"):
                if not self._answered and process.poll() is not None:
                    raise RuntimeError(
                        f"the process for math-verify does not start (exit status {process.returncode})."
                    )
                self.stop()
                raise TimeoutError
            self._answered = True
            found: dict[str, Any] = json.loads(reply)
            return found

    def stop(self) -> None:
        """Ends the process, if it is ours."""
        if self._process is not None and self._owner == os.getpid():
            self._process.kill()
            self._process.communicate()
        self._process = None

    def _running(self) -> subprocess.Popen[bytes]:
        # A forked process must not use its parent's worker.
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self._owner, self._answered = os.getpid(), False
            arguments = [str(os.getpid()), str(int(unsupported() is None)), *readable_paths()]
            self._process = subprocess.Popen(
                [sys.executable, "-s", "-P", "-B", str(_WORKER), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=ENVIRONMENT,
                start_new_session=True,
            )
        return self._process


def _read_line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    assert process.stdout is not None
    deadline = time.monotonic() + seconds
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not line.endswith(b"\n") and selector.select(max(0.0, deadline - time.monotonic())):
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            if not chunk:
                break
            line += chunk
    return line


_worker = _Worker()
atexit.register(_worker.stop)
