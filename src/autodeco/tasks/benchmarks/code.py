"""Taking a program out of a completion. Pure functions on text; nothing is executed here."""

from __future__ import annotations

import re

_FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+#.-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
_PYTHON = {"", "python", "python3", "py"}


def code_blocks(completion: str) -> list[str]:
    """The contents of all fenced blocks that may be Python, in order; one without an end reaches to the end."""
    return [match[2] for match in _FENCE.finditer(completion) if match[1].lower() in _PYTHON]
