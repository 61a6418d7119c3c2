"""Hooks of the documentation site: what of it is made from the code and the benchmarks. No page of its own.

The pages are also read as plain Markdown in the repository, so their links go to files there; here they are turned to
where the site has the same thing.
"""

from __future__ import annotations

import html
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
CLI = "reference/cli.md"
# Modules that a page links to as source files, by the page of the reference that has them.
_MODULE_PAGES = {"objectives": "reference/objectives.md"}

_EXAMPLES = re.compile(r"^Examples:\n((?: {2}.*\n)+)", re.MULTILINE)
_SOURCE_LINK = re.compile(r"\]\(\.\./src/(autodeco/(\w+)/\w+)\.py\)")
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.+?)\\[)\]]</\1>', re.DOTALL)
_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):(?=<code>)")


def on_files(files: Files, config: Any) -> Files:
    """Adds the command-line reference and the benchmarks' figures."""
    files.append(File.generated(config, CLI, content=command_line_reference()))
    for figure in sorted(ROOT.glob("benchmarks/results/**/*.svg")):
        files.append(File.generated(config, figure.relative_to(ROOT).as_posix(), abs_src_path=str(figure)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Turns links to files outside of the documentation to their place on the site."""
    return _SOURCE_LINK.sub(_reference_link, markdown.replace("](../benchmarks/", "](benchmarks/"))


def on_page_content(content: str, **_: Any) -> str:
    """Makes MathML of formulas; takes the roles of reStructuredText, which docstrings have for editors, out."""
    return _FORMULA.sub(_as_mathml, _ROLE.sub("", content))


def command_line_reference() -> str:
    """Markdown of every command's help, as Typer writes it, with the examples as code."""
    command = [sys.executable, "-m", "typer", "autodeco.cli.app", "utils", "docs", "--name", "autodeco"]
    made = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=120).stdout
    return _EXAMPLES.sub(_as_code, made).replace("# `autodeco`", "# Command line", 1)


def _as_code(examples: re.Match[str]) -> str:
    lines = [html.unescape(line[2:]) for line in examples[1].splitlines()]
    return "\n".join(["**Examples**:", "", "```bash", *lines, "```", ""])


def _as_mathml(formula: re.Match[str]) -> str:
    text = html.unescape(formula[2]).strip()
    if formula[1] == "span":
        return convert(text)
    return f'<div style="overflow-x: auto; padding: .4em 0">{convert(text, display="block")}</div>'  # on narrow screens


def _reference_link(link: re.Match[str]) -> str:
    return f"]({_MODULE_PAGES[link[2]]}#{link[1].replace('/', '.')})"
