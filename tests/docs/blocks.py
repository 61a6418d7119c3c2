"""Reads the code blocks of a Markdown page and knows how each kind is tried. Prepares nothing that a block needs.

A block that cannot be tried has a comment with the reason before it: ``<!-- not run: needs a running server -->``.
What of it can be checked all the same (syntax, options of ``autodeco``, targets of ``make``) still is.
"""

from __future__ import annotations

import re
import shlex
import tomllib
import unittest
from collections.abc import Iterator
from pathlib import Path

import typer
import typer.main
import yaml
from sybil import Document, Example, Region, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

from autodeco.cli.app import app
from autodeco.control.commands import load_commands
from autodeco.control.config import control_config
from autodeco.evaluation.config import evaluation_config
from autodeco.training.config import training_config

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = RawFencedCodeBlockLexer(re.compile(r"(?P<language>[^\n]*)$\n", re.MULTILINE))
_INLINE = re.compile(r"(?<!`)`(autodeco [^`]+)`(?!`)")
_NOT_RUN = re.compile(r"<!-- not run: ([^\n]+?) -->\n+\Z")
_VARIABLE = re.compile(r"[A-Z_]+=")
_HARMLESS = ("printf", "cat", "wait", "source")
_TARGET = re.compile(r"^([a-z-]+):", re.MULTILINE)
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
_COMMAND = typer.main.get_command(app)


def document_of(page: Path) -> Document:
    """A page with its blocks as examples, in their order and with one namespace."""
    return Sybil(parsers=[_blocks, _inline_commands]).parse(page)


def not_run(document: Document, start: int) -> str | None:
    """Why the block that begins at a character of the page is not tried; ``None`` where it is to be."""
    reason = _NOT_RUN.search(document.text[:start])
    return reason[1] if reason else None


def _blocks(document: Document) -> Iterator[Region]:
    for region in _FENCE(document):
        language = region.lexemes["language"]
        if language not in _EVALUATORS:
            raise ValueError(f"{document.path}: nothing here tries a block of '{language}'. Known: {[*_EVALUATORS]}.")
        yield Region(region.start, region.end, region.lexemes["source"], _EVALUATORS[language])


def _inline_commands(document: Document) -> Iterator[Region]:
    """Commands within the running text. They may leave out what the text has said, so only what is there is checked."""
    fences = [(region.start, region.end) for region in _FENCE(document)]
    for found in _INLINE.finditer(document.text):
        if not any(start <= found.start() < end for start, end in fences):
            yield Region(found.start(), found.end(), " ".join(found[1].split()), _check_inline)


def _run_python(example: Example) -> None:
    if reason := not_run(example.document, example.start):
        compile(example.parsed, example.path, "exec")
        raise unittest.SkipTest(reason)
    PythonEvaluator()(example)


def _read_yaml(example: Example) -> None:
    """Builds the real configuration: of commands (a list), an evaluation, control training, or training."""
    values = yaml.safe_load(example.parsed)
    if isinstance(values, list):
        Path("commands.yaml").write_text(example.parsed, encoding="utf-8")
        load_commands("commands.yaml")
    elif "models" in values:
        evaluation_config(values)
    elif "commands_per_prompt" in values or "positions" in values:
        control_config(values)
    else:
        training_config(values)


def _check_shell(example: Example) -> None:
    reason = not_run(example.document, example.start)
    unknown = [line for line in _commands(example.parsed) if not _check_command(line)]
    if reason and unknown:
        raise unittest.SkipTest(reason)
    assert not unknown, f"{unknown}: no check knows this program. Say why it is not run."
    assert not reason, f"nothing in this block needs the excuse '{reason}'"


def _commands(text: str) -> Iterator[str]:
    """Command lines of a block: after ``$`` where there is one, the rest being output; else every line."""
    lines = re.sub(r" *\\\n\s*", " ", text).splitlines()
    prompted = [line[2:] for line in lines if line.startswith("$ ")]
    for line in prompted or lines:
        for command in re.split(r" \| | && ", line.removesuffix(" &")):
            if words := shlex.split(command, comments=True):
                yield shlex.join(words)


def _check_command(line: str) -> bool:
    """Checks a command line of a program that is this project's business; false for any other program."""
    program, *arguments = [word for word in shlex.split(line) if not _VARIABLE.match(word)]
    if ">" in arguments:
        arguments = arguments[: arguments.index(">")]
    if program.endswith("autodeco"):
        parse_arguments(arguments)
    elif program == "make":
        targets = set(_TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8")))
        assert {word for word in arguments if "=" not in word} <= targets, f"'{line}': targets are {sorted(targets)}"
    elif program == "pip":
        for extras in re.findall(r"(?:autodeco|\.)\[([a-z,]+)\]", line):
            known = set(_PROJECT["optional-dependencies"])
            assert set(extras.split(",")) <= known, f"'{line}': extras are {sorted(known)}"
    elif "pytest" in arguments:
        lost = [word for word in arguments if word.startswith("tests") and not (ROOT / word).exists()]
        assert not lost, f"'{line}': there is no {lost}"
    else:
        return program in _HARMLESS
    return True


def parse_arguments(arguments: list[str], *, partial: bool = False) -> None:
    """Has the real command line parse arguments, down to the subcommand, and run nothing.

    Args:
        arguments: what follows ``autodeco``.
        partial: whether required ones may be absent.

    Raises:
        Exception: of Typer's: an unknown command or option, a value that does not convert, a required one absent.
    """
    command, context, name = _COMMAND, None, "autodeco"
    while True:
        try:
            context = command.make_context(name, list(arguments), parent=context)
        except typer.BadParameter as error:  # the class for what is absent is not public
            if partial and type(error).__name__ == "MissingParameter":
                return
            raise
        rest = [*context._protected_args, *context.args]
        if not hasattr(command, "resolve_command") or not rest:
            return
        name, command, arguments = command.resolve_command(context, rest)


def _check_inline(example: Example) -> None:
    parse_arguments(shlex.split(example.parsed)[1:], partial=True)


def _not_code(example: Example) -> None:
    """A block that is neither code nor configuration."""


_EVALUATORS = {
    "python": _run_python,
    "yaml": _read_yaml,
    "console": _check_shell,
    "": _check_shell,
    "bibtex": _not_code,
}
