"""``autodeco chat`` in a pipe and in a pseudo-terminal, as a process of its own."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import autodeco
from autodeco import AutoDecoForCausalLM
from autodeco.trace.format import read_trace
from tests.conftest import byte_tokenizer, tiny_llama

pty = pytest.importorskip("pty", reason="pseudo-terminals are Unix's")

COMMAND = [sys.executable, "-c", "from autodeco.cli import main; main()", "chat"]
PATIENCE = 90  # seconds; a busy machine is not a mistake


@pytest.fixture(scope="module")
def heads(tmp_path_factory) -> Path:
    """Heads on a model that never ends an answer by itself."""
    folder = tmp_path_factory.mktemp("chat")
    tokenizer = byte_tokenizer()
    base = tiny_llama(vocab_size=len(tokenizer), max_position_embeddings=4096, eos_token_id=None)
    base.generation_config.eos_token_id = None
    base.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    AutoDecoForCausalLM.from_base(folder / "base").save_pretrained(folder / "heads")
    return folder / "heads"


def environment(**changes: str) -> dict[str, str]:
    source = str(Path(autodeco.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": source, "TERM": "xterm-256color", "COLUMNS": "100", **changes}


def piped(heads: Path, text: bytes, *options: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, str(heads), *options], input=text, capture_output=True, env=environment(), timeout=PATIENCE
    )


def test_a_pipe_gets_one_line_a_message_without_colour(heads):
    done = piped(heads, "Hi\n\nGood\x1b[2J b\u200bye \n".encode() + b"\xff\n", "--max-new-tokens", "3")
    assert done.returncode == 0, done.stderr
    assert b"\x1b" not in done.stdout
    assert b"mean T" not in done.stdout


def test_a_pipe_ends_at_what_cannot_be_answered(heads):
    done = piped(heads, b"Hi\n" + b"x" * 100_000 + b"\nHi\n", "--max-new-tokens", "3")
    assert done.returncode == 2
    assert b"reads at most 4,096" in done.stderr
    assert b"Traceback" not in done.stderr


class Terminal:
    """A pseudo-terminal with the chat in it."""

    def __init__(self, heads: Path, *options: str, **changes: str) -> None:
        self.process, self._end = pty.fork()
        if self.process == 0:
            os.execve(sys.executable, [*COMMAND, str(heads), *options], environment(**changes))
        self.seen = ""

    def until(self, pattern: str) -> str:
        """What is printed up to and including the pattern, from where the last call ended."""
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.seen)):
            if time.monotonic() > deadline or not select.select([self._end], [], [], PATIENCE)[0]:
                raise AssertionError(f"no {pattern!r} in {self.seen[-2000:]!r}")
            self.seen += os.read(self._end, 65536).decode(errors="replace")
        before, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return before

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def status(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])

    def close(self) -> None:
        try:
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(self._end)


@pytest.fixture
def terminal(heads):
    opened = []

    def open_terminal(*options: str, **changes: str) -> Terminal:
        opened.append(Terminal(heads, *options, **changes))
        return opened[-1]

    yield open_terminal
    for one in opened:
        one.close()


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_stops_the_answer_and_not_the_program(terminal, tmp_path):
    chat = terminal("--max-new-tokens", "4000")
    chat.until("you> ")
    chat.type("Hi\r")
    chat.until(r"(\x1b\[37;48;[\d;]+m[^\x1b]*\x1b\[0m\s*){3}")  # a few tokens, tinted
    chat.type("\x03")
    shown = chat.until("you> ")
    count = int(re.search(r"(\d[\d,]*) tokens · mean T [\d.]+ · mean P [\d.]+ · stopped", shown)[1].replace(",", ""))
    assert 3 <= count < 3900
    time.sleep(2)  # Python's readline hears a signal that comes with the prompt only at the next key
    chat.type("\x03")  # at the prompt, too, it takes nothing but the line
    chat.until(r"/quit leaves\..*\s*you> ")
    path = tmp_path / "stopped.jsonl"
    chat.type(f"/save {path}\r")
    chat.until(r"trace: [\s\S]*?you> ")
    assert len(read_trace(path).tokens) == count
    chat.type("\x04")
    assert chat.status() == 0


def test_no_color_and_a_long_line(terminal):
    chat = terminal("--max-new-tokens", "3", NO_COLOR="1")
    chat.until("you> ")
    chat.type("Hi\r")
    assert "48;" not in chat.until("3 tokens")
    chat.until("you> ")
    chat.type("x" * 5000 + "\r")  # over what a terminal takes for a line by itself
    chat.until("reads at most 4,096")
    chat.until("you> ")
    chat.type("/quit\r")
    assert chat.status() == 0
