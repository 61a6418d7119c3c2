"""The record of what results depend on, beside them: what tells a run that goes on from another run in its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from autodeco.errors import RunFolderError


def read_record(path: Path, what: str, output: str) -> dict[str, Any]:
    """Reads a record.

    Args:
        path: a JSON file.
        what: what cannot be continued without it, for the message.
        output: what to choose another of, likewise: ``"file"`` or ``"folder"``.

    Raises:
        RunFolderError: it is no JSON object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise RunFolderError(f"{path} is damaged, so {what} cannot be continued. Choose another output {output}.")
    return found


def differences(found: Any, needed: Any, name: str = "") -> list[str]:
    """Says where two records differ, a line for each value; ``name`` is what the whole is called."""
    if isinstance(found, dict) and isinstance(needed, dict):
        keys = sorted(found.keys() | needed.keys())
        return [line for key in keys for line in differences(found.get(key), needed.get(key), f"{name}.{key}")]
    return [] if found == needed else [f"{name.lstrip('.')} is {found!r} there and {needed!r} here"]
