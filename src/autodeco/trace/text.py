"""Text of single tokens: what each adds to the whole, and how it is shown without steering a terminal or a page.

Knows nothing of probabilities, colours or files.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

# Unicode's Default_Ignorable_Code_Point that count as printable: they take no room, so text could hide in them. The two
# presentation selectors of emoji (FE0E, FE0F) are left out: they choose between two pictures of one character.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0d\uffa0\U000e0100-\U000e01ef]"
)
# Vocabularies with byte fallback name a single byte like this.
_BYTE_TOKEN = re.compile("<0x([0-9A-Fa-f]{2})>")
_REPLACEMENT = "\ufffd"


def token_pieces(tokenizer: Any, token_ids: Sequence[int]) -> list[str]:
    """The text that each token adds.

    A character whose bytes are split over several tokens belongs to the last of them; the others are empty.

    Args:
        tokenizer: of the model.
        token_ids: any number of token ids.

    Returns:
        One string a token; together they are the decoded text.
    """
    ids = [int(token_id) for token_id in token_ids]
    stream = PieceStream(tokenizer)
    pieces = [stream.add(token_id) for token_id in ids]
    whole = _decode(tokenizer, ids)
    if pieces and pieces[-1] == "":  # the bytes at the end are no character
        pieces[-1] = whole[len("".join(pieces)) :]
    return pieces if "".join(pieces) == whole else _pieces_of(whole, tokenizer, ids)


class PieceStream:
    """The text that each token adds, while the text is being written.

    Args:
        tokenizer: of the model.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        # What a token adds can depend on the one before (a leading space), so each is decoded behind a token or two.
        self._ids: list[int] = []
        self._before = ""
        self._finished = 0  # of those ids: they are the text before

    def add(self, token_id: int) -> str:
        """The text of the next token; empty in the middle of a character."""
        self._ids.append(token_id)
        text = _decode(self._tokenizer, self._ids)
        if text.endswith(_REPLACEMENT):
            return ""
        piece = text[len(self._before) :]
        self._ids = self._ids[self._finished :]
        self._finished = len(self._ids)
        self._before = _decode(self._tokenizer, self._ids)
        return piece


def _pieces_of(whole: str, tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """The pieces for tokenizers whose text is not that of its parts: decodes every beginning, so it is slow."""
    ends = [0]
    for end in range(1, len(ids)):
        text = _decode(tokenizer, ids[:end])
        same = next((at for at, letter in enumerate(whole) if text[at : at + 1] != letter), len(whole))
        ends.append(max(ends[-1], same))
    ends.append(len(whole))
    return [whole[start:end] for start, end in pairwise(ends)]


class Vocabulary:
    """Texts of single entries of a tokenizer's vocabulary.

    Args:
        tokenizer: of the model.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._texts: dict[int, str] = {}
        added = tokenizer.added_tokens_decoder
        self._special = {*tokenizer.all_special_ids, *(token_id for token_id, token in added.items() if token.special)}
        # In the middle of a text: some tokenizers take the space from the first token.
        self._before = tokenizer.encode("a", add_special_tokens=False)[-1:]

    def is_special(self, token_id: int) -> bool:
        """Whether a token stands for something other than text, such as the end of a turn."""
        return token_id in self._special

    def text(self, token_id: int) -> str:
        """The text of a token in the middle of a text; U+FFFD for bytes that are no whole character."""
        if token_id not in self._texts:
            before = _decode(self._tokenizer, self._before)
            self._texts[token_id] = _decode(self._tokenizer, [*self._before, token_id])[len(before) :]
        return self._texts[token_id]

    def partial_bytes(self, token_id: int) -> bytes | None:
        """The bytes of a token that holds only a part of a character; ``None`` for every other token."""
        if _REPLACEMENT not in self.text(token_id):
            return None
        name = str(self._tokenizer.convert_ids_to_tokens(token_id))
        if byte := _BYTE_TOKEN.fullmatch(name):
            return bytes.fromhex(byte[1])
        alphabet = _byte_of_letter()
        if any(letter not in alphabet for letter in name):
            return None
        found = bytes(alphabet[letter] for letter in name)
        # The vocabulary may also hold U+FFFD itself, which is a character like any other.
        return None if _is_text(found) else found


def visible(text: str) -> str:
    """``text`` with everything that steers a terminal, hides or reorders text shown as its escape (``\\x1b``).

    Newlines and tabs stay. Letters of any script, combining marks, wide characters and spaces of any width do too.
    """
    return "".join(character if is_harmless(character) else escaped(character) for character in text)


def shown(text: str, partial_bytes: str | None = None) -> str:
    """A token by itself, in one line: newlines as ``↵``, tabs as ``⇥``, bytes of a split character as ``<e2 82>``.

    Args:
        text: the token's text.
        partial_bytes: its bytes in hexadecimal, where they are not whole characters.
    """
    if partial_bytes is not None:
        return f"<{bytes.fromhex(partial_bytes).hex(' ')}>"
    return visible(text).replace("\n", "↵").replace("\t", "⇥")


def escaped(text: str) -> str:
    """Every character of ``text`` as Python would write it in a string: ``\\x1b``, ``\\u200b``."""
    return text.encode("unicode_escape").decode()


def is_harmless(character: str) -> bool:
    """Whether one character can be shown as it is, newlines and tabs included (see :func:`visible`)."""
    if character in "\n\t" or unicodedata.category(character) == "Zs":
        return True
    return character.isprintable() and not _UNSEEN.match(character)


def _decode(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _byte_of_letter() -> dict[str, int]:
    """The letters by which byte-level vocabularies name bytes."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return {letter: byte for byte, letter in bytes_to_unicode().items()}


def _is_text(found: bytes) -> bool:
    try:
        found.decode()
    except UnicodeDecodeError:
        return False
    return True
