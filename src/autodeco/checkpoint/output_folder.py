"""Making a whole folder so that it appears complete or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autodeco.errors import AutoDecoError, RunFolderError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


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
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        if path.is_dir():
            path.rmdir()  # empty: rename replaces it on POSIX only
        temporary.rename(path)
    except OSError as error:
        if isinstance(error, AutoDecoError):
            raise
        if error.errno in _FULL:
            raise RunFolderError(
                f"{path} was not written: the disk is full or its quota is used up. Nothing was left behind. Free some "
                f"space, or choose another output folder."
            ) from error
        if error.errno in _FORBIDDEN:
            raise RunFolderError(f"{path} cannot be written ({error}). Choose another output folder.") from error
        raise
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


def check_space(folder: Path, needed: int) -> None:
    """Refuses to begin what the disk has no room for.

    Raises:
        RunFolderError: fewer than ``needed`` bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RunFolderError(
            f"{folder.parent}: {free / 1e9:.1f} GB are free on its disk, and {needed / 1e9:.1f} GB are needed. Free "
            f"some space, or choose another output folder."
        )
