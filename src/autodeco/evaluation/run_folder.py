"""An evaluation's folder: one process at a time, never two different evaluations, and a record of how it was made.

``evaluation.json`` holds everything that samples depend on. More models, tasks, strategies or samples may be added to a
folder; what is there must not change. ``provenance.json`` says what ran, every time. Knows nothing of how samples are
drawn.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from autodeco import provenance
from autodeco.errors import RunFolderError
from autodeco.evaluation.results import RESULTS_FILE, RUNNING_FILE
from autodeco.files import atomic_write_text, disk_errors_named
from autodeco.identity import differences, read_record

IDENTITY_FILE = "evaluation.json"
SPEED_FILE = "speed.json"
_LOCK_FILE = "evaluation.lock"
_PROVENANCE_FILE = "provenance.json"

Identity = dict[str, dict[str, Any]]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes the folder and holds it for this process.

    Raises:
        RunFolderError: another process has it, or it cannot be written.
    """
    with disk_errors_named(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / _LOCK_FILE)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RunFolderError(
                f"{folder}: another process is writing this evaluation. Wait for it, or choose another output folder."
            ) from None
    try:
        yield
    finally:
        lock.release()


def guard(folder: Path, identity: Identity) -> None:
    """Checks that the folder belongs to the same evaluation, and records what is new in it.

    Args:
        folder: of the run.
        identity: by section (``"settings"``, ``"models"``, ``"tasks"``) what is called what, as JSON types. Names that
            only the folder or only this call has are kept side by side.

    Raises:
        RunFolderError: something has another value there, or the folder holds results of unknown origin.
    """
    path = folder / IDENTITY_FILE
    needed: Identity = json.loads(json.dumps(identity))  # as it will be read back: tuples become lists
    found: Identity = {}
    if path.is_file():
        found = read_record(path, "the folder", "folder")
        lines = [
            line
            for section, entries in needed.items()
            for name, entry in entries.items()
            if name in found.get(section, {})
            for line in differences(found[section][name], entry, f"{section}.{name}")
        ]
        if lines:
            raise RunFolderError(
                f"{folder} holds another evaluation: {'; '.join(lines)}. Use the same settings to go on with it, or "
                f"choose another output folder. (Strategies, samples, tasks and models can be added.)"
            )
    elif (name := next((name for name in (RUNNING_FILE, RESULTS_FILE) if (folder / name).exists()), None)) is not None:
        raise RunFolderError(
            f"{folder} holds {name}, and {IDENTITY_FILE}, which would say how it was made, does not exist: it "
            f"cannot be continued. Choose another output folder."
        )
    joined = {section: {**found.get(section, {}), **entries} for section, entries in needed.items()}
    if joined != found:
        atomic_write_text(path, json.dumps(joined, indent=2, ensure_ascii=False) + "\n")


def write_provenance(folder: Path, config: Mapping[str, Any]) -> None:
    """Records this process and its configuration, and in short the processes that wrote to the folder before it."""
    path = folder / _PROVENANCE_FILE
    earlier: list[Any] = []
    if path.is_file():
        last = read_record(path, "the folder", "folder")
        names = ("command", "date", "autodeco", "git_revision", "packages", "platform", "config")
        earlier = [*last.get("earlier", []), {name: last[name] for name in names if name in last}]
    provenance.write(path, config=config, earlier=earlier)


class Speeds:
    """Tokens and seconds of each model, task and strategy, in ``speed.json``.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / SPEED_FILE
        rows = read_record(self._path, "the folder", "folder").get("speeds", []) if self._path.is_file() else []
        self._rows: dict[tuple[str, ...], dict[str, Any]] = {self._key(row): row for row in rows}

    @staticmethod
    def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(str(row[name]) for name in ("model", "task", "split", "strategy"))

    def add(self, samples: int, tokens: int, seconds: float, **what: str) -> None:
        """Adds the samples of one turn (``model=``, ``task=``, ``split=``, ``strategy=``), and writes the file."""
        row = self._rows.setdefault(self._key(what), {**what, "samples": 0, "tokens": 0, "seconds": 0.0})
        row["samples"] += samples
        row["tokens"] += tokens
        row["seconds"] = round(row["seconds"] + seconds, 3)
        atomic_write_text(self._path, json.dumps({"speeds": list(self._rows.values())}, indent=2) + "\n")
