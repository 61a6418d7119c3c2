"""Writing files so that a crash, a kill or a full disk leaves either the old content or the new, never half of it.

Knows nothing about what is in the files, except that JSONL holds one JSON object a line.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autodeco.errors import DataError, RunFolderError


@contextmanager
def replaced_atomically(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path to write to, and puts that file in the place of ``path`` when the block ends well.

    The temporary file is in the same folder (a rename across file systems is not atomic) and keeps ``path``'s suffix.
    If the block raises, ``path`` is untouched and the temporary file is gone.

    Raises:
        RunFolderError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    with disk_errors_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            _flush_to_disk(temporary)
            _take_mode(temporary, path)
            temporary.replace(path)
            _flush_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def atomic_write_bytes(path: str | Path, content: bytes) -> None:
    """Writes a file at once. Raises :class:`RunFolderError` if the disk is full or the folder cannot be written."""
    with replaced_atomically(path) as temporary:
        temporary.write_bytes(content)


def atomic_write_text(path: str | Path, text: str) -> None:
    """Writes a UTF-8 file at once. Raises :class:`RunFolderError` like :func:`atomic_write_bytes`."""
    atomic_write_bytes(path, text.encode())


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def append_jsonl(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Appends rows as whole lines that are on disk when this returns.

    A kill in between can leave a cut-off last line, which :func:`recover_jsonl` removes; a full disk does not: what
    was written of these rows is taken back.

    Raises:
        RunFolderError: the disk is full, or the file cannot be written.
        ValueError: a row holds NaN or infinity, which JSON does not have.
    """
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n" for row in rows]
    content = memoryview("".join(lines).encode())
    # Unbuffered: what a buffer could not write it would write once more on closing, after the file was cut back.
    with disk_errors_named(Path(path)), Path(path).open("ab", buffering=0) as file:
        before = file.tell()
        try:
            while content:
                content = content[file.write(content) :]
            os.fsync(file.fileno())
        except OSError:
            os.truncate(path, before)
            raise


def read_jsonl(path: str | Path, *, growing: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields ``(line number from 1, row)``; empty lines are skipped.

    Args:
        path: the file.
        growing: another process may be writing it, or was killed at that: a last line without an end is left out.

    Raises:
        DataError: the file is missing, or a line is not a JSON object in UTF-8; names the file and the line.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; a JSONL file with one JSON object a line is needed.")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip() and (line.endswith(b"\n") or not growing):
                yield number, _parse_line(line, f"{path}, line {number}")


def recover_jsonl(path: str | Path) -> int:
    """Cuts off a last line that was never finished, as ``kill -9`` in the middle of a write leaves it.

    Returns:
        Bytes removed: 0 if the file is whole, empty or absent.
    """
    path = Path(path)
    if not path.is_file():
        return 0
    with path.open("rb+") as file:
        size = end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            file.truncate(end)
            os.fsync(file.fileno())
    return size - end


def _parse_line(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 ({error.reason} at byte {error.start}); save the file as UTF-8.") from None
    except json.JSONDecodeError as error:
        cut_off = "" if line.endswith(b"\n") else " The line is the last one and has no end: it may have been cut off."
        raise DataError(f"{where}: not JSON ({error.msg} at column {error.colno}).{cut_off}") from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: a JSON object ({{...}}) is needed, found {type(row).__name__}.")
    return row


@contextmanager
def disk_errors_named(path: Path) -> Iterator[None]:
    """Turns errors of a full or forbidden disk that the block raises into :class:`RunFolderError` about ``path``."""
    try:
        yield
    except OSError as error:
        if isinstance(error, RunFolderError):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunFolderError(
                f"{path}: the disk is full or its quota is used up ({_free_space(path)} free). Free some space and run "
                f"the same command again, or choose another output folder."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR):
            raise RunFolderError(
                f"{path}: cannot be written ({error.strerror}). Choose another output path."
            ) from error
        raise


def check_space(folder: Path, needed: int, what: str) -> None:
    """Refuses to begin what the disk has no room for.

    Args:
        folder: where it will be written; need not exist yet.
        needed: bytes.
        what: what they are for, for the error.

    Raises:
        RunFolderError: fewer than ``needed`` bytes are free.
    """
    free = _free_bytes(folder / "_")
    if free < needed:
        raise RunFolderError(
            f"{folder}: {free / 1e9:.1f} GB are free on its disk, and {what} needs {needed / 1e9:.1f} GB. Free some "
            f"space, or choose another output folder."
        )


def _free_space(path: Path) -> str:
    return f"{_free_bytes(path) / 1e6:,.1f} MB"


def _free_bytes(path: Path) -> int:
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    return shutil.disk_usage(folder).free


def _flush_to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    # The rename itself survives a power cut only once the folder is on disk. Windows cannot open folders.
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _take_mode(temporary: Path, path: Path) -> None:
    # mkstemp makes files that only their owner can read; give the mode that open() would have given.
    if path.exists():
        mode = path.stat().st_mode & 0o777
    else:
        umask = os.umask(0)
        os.umask(umask)
        mode = 0o666 & ~umask
    temporary.chmod(mode)
