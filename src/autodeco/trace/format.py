"""The trace file: what happened at each token, as JSON Lines. Written here, read here, checked in both directions.

The first line is the header, each further line a token; ``docs/trace.md`` describes every field. Knows nothing of
models, tokenizers or how a trace is shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from autodeco.errors import DataError
from autodeco.files import atomic_write_text, read_jsonl

FORMAT = "autodeco-trace"
VERSION = 1
ALTERNATIVES = 5

_DIGITS = 6  # significant ones that numbers keep in a file: more than float32 logits are good for


class _Line(BaseModel):
    # Unknown fields are ignored: a later package may add some without a new version.
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


_Kind = TypeVar("_Kind", bound=_Line)


class Alternative(_Line):
    """One token that could have stood in the place of the chosen one.

    Attributes:
        token_id: its id.
        text: its text, as in :class:`TracedToken`.
        partial_bytes: as in :class:`TracedToken`.
        base_probability: before shaping.
        probability: after shaping; 0 outside the nucleus.
    """

    token_id: int = Field(ge=0)
    text: str
    partial_bytes: str | None = Field(default=None, pattern="^([0-9a-f]{2})+$")
    base_probability: float = Field(ge=0, le=1)
    probability: float = Field(ge=0, le=1)


class TracedToken(_Line):
    """One token and the distribution that it was drawn from. "Before" is ``softmax(logits)`` of the base model.

    What only a pass of the model can say is ``None`` in a trace that a server's own figures were made into.

    Attributes:
        token_id: its id.
        text: what it adds to the text. The texts of all tokens together are the decoded text, so a token that holds
            only the beginning of a character has none, and the one that completes it has the character.
        partial_bytes: the token's own bytes in hexadecimal where they are not whole characters.
        special: whether it is a special token (end of text, end of turn, ...).
        temperature: ``T``.
        top_p: ``P``.
        nucleus_size: number of tokens that the shaped distribution keeps.
        rank: the token's place before shaping: 1 is the most likely.
        base_entropy: nats, before shaping.
        entropy: nats, after shaping.
        base_probability: of the token, before shaping.
        probability: of the token, after shaping; 0 if it lies outside the nucleus.
        alternatives: the most likely other tokens before shaping, best first.
    """

    token_id: int = Field(ge=0)
    text: str
    partial_bytes: str | None = Field(default=None, pattern="^([0-9a-f]{2})+$")
    special: bool = False
    temperature: float = Field(ge=0)
    top_p: float = Field(ge=0, le=1)
    nucleus_size: int | None = Field(default=None, ge=1)
    rank: int | None = Field(default=None, ge=1)
    base_entropy: float | None = Field(default=None, ge=0)
    entropy: float | None = Field(default=None, ge=0)
    base_probability: float | None = Field(default=None, ge=0, le=1)
    probability: float | None = Field(default=None, ge=0, le=1)
    alternatives: tuple[Alternative, ...] = Field(default=(), max_length=ALTERNATIVES, strict=False)


class Header(_Line):
    """What a trace is of.

    Attributes:
        model: name or path of the model.
        prompt: the text before the first traced token, chat template and special tokens included.
        strategy: spec of the decoding strategy that shaped the logits (see :func:`autodeco.strategies.get_strategy`);
            ``autodeco, decoding=...`` where the heads' choices were steered.
        settings: of the generation, by name: ``seed``, ``temperature_factor`` (a caller's own, times T), ... Free-form.
        versions: of the libraries, by name.
    """

    model: str
    prompt: str
    strategy: str = "autodeco"
    settings: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)


class Trace(_Line):
    """What happened at each token of one completion.

    Attributes:
        header: what it is of.
        tokens: in the order of the text.
    """

    header: Header
    tokens: tuple[TracedToken, ...]

    @property
    def text(self) -> str:
        """The completion, special tokens included."""
        return "".join(token.text for token in self.tokens)

    @property
    def summary(self) -> str:
        """See :func:`summary`."""
        return summary(self.tokens)


class _Chosen(Protocol):
    @property
    def temperature(self) -> float: ...
    @property
    def top_p(self) -> float: ...


def summary(tokens: Sequence[_Chosen]) -> str:
    """Number of tokens, mean T and mean P, in words."""
    count = len(tokens)
    if not count:
        return "no tokens"
    temperature = sum(token.temperature for token in tokens) / count
    top_p = sum(token.top_p for token in tokens) / count
    return f"{count:,} tokens · mean T {temperature:.2f} · mean P {top_p:.2f}"


class _FirstLine(Header):
    """The header as it is in the file."""

    format: Literal["autodeco-trace"]
    version: int
    tokens: int = Field(ge=0)


def write_trace(path: str | Path, trace: Trace) -> None:
    """Writes a trace file, whole or not at all. Numbers are rounded to six significant digits.

    Raises:
        RunFolderError: the disk is full, or the folder cannot be written.
    """
    first = {"format": FORMAT, "version": VERSION, "tokens": len(trace.tokens), **trace.header.model_dump()}
    lines = [first, *(_rounded(token.model_dump(exclude_defaults=True)) for token in trace.tokens)]
    # ASCII: a text may hold what UTF-8 cannot write (half of a surrogate pair) and what editors take for a line's end.
    atomic_write_text(path, "".join(json.dumps(line, allow_nan=False, separators=(",", ":")) + "\n" for line in lines))


def read_trace(path: str | Path) -> Trace:
    """Reads a trace file.

    Raises:
        DataError: the file is missing, is no trace, is of another version, was cut off, or a value is out of bounds;
            names the file and the line.
    """
    lines = read_jsonl(path)
    first = _read_header(path, lines)
    # One more than there should be, so that a file with too many is noticed.
    tokens = tuple(_parsed(TracedToken, row, f"{path}, line {n}") for n, row in islice(lines, first.tokens + 1))
    if len(tokens) < first.tokens:
        raise DataError(
            f"{path}: the header announces {first.tokens} tokens and {len(tokens)} follow: the file was cut off. "
            f"Copy it again from where it was made, or make it anew."
        )
    if len(tokens) > first.tokens:
        raise DataError(f"{path}: the header announces {first.tokens} tokens and more follow; a file holds one trace.")
    header = Header(**{name: getattr(first, name) for name in Header.model_fields})
    return Trace(header=header, tokens=tokens)


def _read_header(path: str | Path, lines: Iterator[tuple[int, dict[str, Any]]]) -> _FirstLine:
    number, row = next(lines, (0, None))
    if row is None:
        raise DataError(f"{path}: the file is empty; a trace begins with a header line.")
    if row.get("format") != FORMAT:
        raise DataError(
            f'{path}: not a trace: its first line has no "format":"{FORMAT}". Traces are made by '
            f"'autodeco generate --trace-file' (see docs/trace.md)."
        )
    if row.get("version") != VERSION:
        raise DataError(
            f"{path}: a trace of version {row.get('version')!r}, and this package reads version {VERSION}. Make the "
            f"trace anew, or use the package that wrote it ({_writer(row)})."
        )
    return _parsed(_FirstLine, row, f"{path}, line {number}")


def _writer(row: dict[str, Any]) -> str:
    versions = row.get("versions")
    version = versions.get("autodeco") if isinstance(versions, dict) else None
    return f"autodeco {version}" if isinstance(version, str) else "it does not say which"


def _parsed(kind: type[_Kind], row: dict[str, Any], where: str) -> _Kind:
    try:
        return kind.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        found = "" if first["type"] == "missing" else f" found {first['input']!r:.80};"
        raise DataError(f"{where}: field '{field}':{found} {first['msg'][0].lower()}{first['msg'][1:]}.") from None


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [_rounded(item) for item in value]
    return value
