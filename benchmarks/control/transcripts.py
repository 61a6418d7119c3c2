"""Texts without and with a command beside their T and P, as Markdown: of fixed places, whether they went well or not.

python benchmarks/control/transcripts.py benchmarks/results/control/smollm2/{patterns,patterns-other}
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from autodeco.control.commands import load_commands
from autodeco.files import read_jsonl

# Conditions, and of each which prompts, by their place among all: nobody chose them for what they show.
SHOWN = {
    "low": (0, 1),
    "high": (2, 3),
    "absolute": (4, 5),
    "look-alike": (6,),
    "quoted low": (7,),
    "scoped": (8,),
    "other language high": (9,),
}


def main(folders: list[str]) -> None:
    lines = (line for folder in folders for _, line in read_jsonl(Path(folder) / "control.jsonl"))
    rows = [line for line in lines if line["sample"] == 0]
    by_case = {(row["problem"], row["condition"]): row for row in rows}
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    commands = {command.id: command.text for command in load_commands()}
    for condition, places in SHOWN.items():
        for place in places:
            plain, row = (by_case[problems[place], name] for name in ("none", condition))
            asked = "".join(f", {name} {row[name]}" for name in ("temperature", "top_p") if row[name] is not None)
            print(f"**{condition}{asked}** ({row['position']}): «{commands[row['command']]}»\n")
            print(_block(plain["messages"][-1]["content"], "prompt"))
            for name, one in (("without", plain), ("with", row)):
                print(_block(one["text"], f"{name}, T {one['mean_temperature']:.2f}, P {one['mean_top_p']:.2f}"))
            print()


def _block(text: str, label: str) -> str:
    """An indented code block: in it no character of a model's text means anything to Markdown or HTML."""
    return textwrap.indent(textwrap.fill(" ".join(f"[{label}] {text}".split()), 110), "    ")


if __name__ == "__main__":
    main(sys.argv[1:])
