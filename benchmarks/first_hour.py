"""Walks through the quick start as a new user would, block by block, and times each command.

    git clone . /tmp/clone && python3 benchmarks/first_hour.py /tmp/clone    # a fresh clone; needs nothing but Python

Reads ``docs/quickstart.md`` of that clone. Servers are not started: the last step is only shown there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PAGE = Path("docs", "quickstart.md")
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SETTINGS = "eval.yaml"  # what the page calls its one block of settings
_ENDLESS = ("autodeco serve", "source ")  # servers; and what a shell of its own forgets at once


class Step(NamedTuple):
    """One command line, Python block or file of the page."""

    language: str
    text: str


def steps(page: Path) -> Iterator[Step]:
    """The page's blocks in order, command lines one by one, but for servers."""
    for language, text in _FENCE.findall(page.read_text(encoding="utf-8")):
        if language != "console":
            yield Step(language, text)
            continue
        for line in text.splitlines():
            command = line.removeprefix("$ ")
            if not command.startswith(_ENDLESS):
                yield Step(language, command)


def run(step: Step, folder: Path, binaries: Path) -> None:
    """Does what the page says, in a folder, with the programs of an environment first.

    Raises:
        subprocess.CalledProcessError: a command or a Python block failed.
    """
    if step.language == "yaml":
        (folder / _SETTINGS).write_text(step.text, encoding="utf-8")
        return
    command = [str(binaries / "python"), "-c", step.text] if step.language == "python" else ["bash", "-c", step.text]
    environment = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(command, cwd=folder, env=environment, check=True, stdin=subprocess.DEVNULL)


def main(clone: Path) -> None:
    rows = []
    for step in steps(clone / PAGE):
        began = time.monotonic()
        run(step, clone, clone / ".venv" / "bin")
        name = f"`{step.text}`" if step.language == "console" else f"the {step.language} block"
        rows.append((name if len(name) < 60 else f"{name[:50]} …`", time.monotonic() - began))
    print("\n| step | time |\n| --- | --- |")
    for name, seconds in rows:
        if seconds >= 0.5:
            print(f"| {name} | {seconds:,.0f} s |" if seconds < 120 else f"| {name} | {seconds / 60:.1f} min |")
    print(f"| in all | {sum(seconds for _, seconds in rows) / 60:.1f} min |")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
