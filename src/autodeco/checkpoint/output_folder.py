"""Making a whole folder so that it appears complete or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autodeco.errors import RunFolderError
from autodeco.files import disk_errors_named


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Gives an empty sibling folder to fill, and renames it to ``path`` when the block ends well.

    If the block raises, nothing is left behind.

    Raises:
        RunFolderError: ``path`` exists and is not an empty folder, the disk is full, or it cannot be written.
    """
    path = Path(path)
    check_new(path)
    temporary = path.absolute().with_name(f".{path.absolute().name}.{os.getpid()}.partial")
    try:
        with disk_errors_named(path):
            path.absolute().parent.mkdir(parents=True, exist_ok=True)
            temporary.mkdir()
            yield temporary
            if path.is_dir():
                path.rmdir()  # empty: rename replaces it on POSIX only
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_new(path: str | Path) -> None:
    """Refuses an output that exists already.

    Raises:
        RunFolderError: ``path`` is a file, or a folder with something in it.
    """
    path = Path(path)
    if path.is_dir() and any(path.iterdir()):
        raise RunFolderError(f"{path} exists and is not empty. Give a new folder, or remove this one first.")
    if path.exists() and not path.is_dir():
        raise RunFolderError(f"{path} is a file, and an output folder is needed. Give a new folder.")
