"""Brings a completion into a form that math-verify reads well. Pure functions on text.

math-verify takes all boxes of a text together as one set; models also box intermediate results, so the last box is
tried alone first. What else is done here is notation that math-verify reads as something else (tried with version 0.9).
"""

from __future__ import annotations

import re

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
# Thousands set apart by LaTeX spaces: 33\,124\,147 would be read as a product.
_THIN_THOUSANDS = re.compile(r"(?<=\d)(?:\\[,;:!]|\\ |~|\{,\})(?=\d{3}(?!\d))")
_WHOLE_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}\.?")
# Long completions end in their answer; math-verify's patterns take seconds on tens of thousands of characters.
_TAIL = 4000
_LONGEST_BOX = 1000


def candidates(completion: str) -> list[str]:
    """Texts to try in turn: the last box alone, then the end of the completion; empty if a box is empty or endless."""
    box = last_box(completion)
    if box is None:
        # Without any box, the last formula or number; a box that was opened and never closed holds no answer.
        return [] if _BOX.search(completion) else [_tidied(completion[-_TAIL:])]
    content = _tidied(box)
    if not content or len(content) > _LONGEST_BOX:
        return []
    found = [rf"\boxed{{{content}}}"]
    if len(_BOX.findall(completion)) > 1:
        found.append(_tidied(completion[-_TAIL:]))
    return found


def last_box(completion: str) -> str | None:
    r"""The content of the last ``\boxed{...}`` that is closed, braces balanced; of the innermost if they are nested."""
    for match in reversed(list(_BOX.finditer(completion))):
        depth = 1
        for index in range(match.end(), min(len(completion), match.end() + 10 * _LONGEST_BOX)):
            character = completion[index]
            depth += (character == "{") - (character == "}")
            if depth == 0:
                return completion[match.end() : index]
    return None


def gold_text(answer: str) -> str:
    """The right answer as math-verify should read it."""
    return rf"\boxed{{{_tidied(answer)}}}"


def _tidied(text: str) -> str:
    text = _THIN_THOUSANDS.sub("", text.strip()).replace("−", "-").replace(r"\fbox", r"\boxed")
    whole = _WHOLE_TEXT.fullmatch(text)
    return _both_signs(whole[1].strip() if whole else text)


def _both_signs(text: str) -> str:
    r"""``a \pm b`` as ``a + b, a - b``; several of them, which may be meant together or apart, are left alone."""
    if r"\boxed" in text or len(re.findall(r"\\pm(?![a-zA-Z])", text)) != 1:
        return text
    parts = _split_at_commas(text)
    doubled = [part.replace(r"\pm", sign) for part in parts for sign in (("+", "-") if r"\pm" in part else ("",))]
    return ", ".join(part.strip() for part in doubled)


def _split_at_commas(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for index, character in enumerate(text):
        depth += (character in "{([") - (character in "})]")
        if character == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]
