from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autodeco.errors import DataError, RunFolderError
from autodeco.files import (
    append_jsonl,
    atomic_write_bytes,
    atomic_write_text,
    read_jsonl,
    recover_jsonl,
    replaced_atomically,
)


def _rows(path: Path) -> list[dict]:
    return [row for _, row in read_jsonl(path)]


def _full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_atomic_write_creates_folders_and_replaces(tmp_path):
    path = tmp_path / "a" / "b.txt"
    atomic_write_text(path, "old é")
    atomic_write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["b.txt"]


def test_a_failed_block_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "a.json"
    atomic_write_text(path, "old")

    def fail() -> None:
        with replaced_atomically(path) as temporary:
            temporary.write_text("half")
            assert temporary.parent == path.parent
            assert temporary.suffix == ".json"
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_new_files_follow_the_umask_and_old_ones_keep_their_mode(tmp_path):
    before = os.umask(0o027)
    try:
        atomic_write_text(tmp_path / "new", "x")
        assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640
        (tmp_path / "new").chmod(0o604)
        atomic_write_text(tmp_path / "new", "y")
        assert (tmp_path / "new").stat().st_mode & 0o777 == 0o604
    finally:
        os.umask(before)


def test_a_full_disk_is_named_with_the_free_space(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", _full_disk)
    with pytest.raises(RunFolderError, match=r"model\.bin: the disk is full .*MB free"):
        atomic_write_text(tmp_path / "model.bin", "x")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((RunFolderError, FileExistsError)):
        atomic_write_text(tmp_path / "file" / "below", "x")


def test_append_takes_back_what_a_full_disk_cut_off(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    append_jsonl(path, [{"n": 1}])
    monkeypatch.setattr(os, "fsync", _full_disk)
    with pytest.raises(RunFolderError, match="disk is full"):
        append_jsonl(path, [{"n": 2}, {"n": 3}])
    assert _rows(path) == [{"n": 1}]


def test_append_takes_back_what_a_full_disk_lets_through_in_part(tmp_path):
    """In a process of its own, whose files may not grow over 400 bytes: a write goes through in part, the next not."""
    program = """
import errno, resource, signal, sys
from autodeco.files import append_jsonl
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
append_jsonl(sys.argv[1], [{"n": 1}])
resource.setrlimit(resource.RLIMIT_FSIZE, (400, resource.RLIM_INFINITY))
try:
    append_jsonl(sys.argv[1], [{"n": "x" * 1000}])
except OSError as error:
    assert error.errno == errno.EFBIG
else:
    raise SystemExit("it was written whole")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""
    path = tmp_path / "rows.jsonl"
    subprocess.run([sys.executable, "-c", program, path], check=True)
    assert path.read_text() == '{"n":1}\n'


def test_a_growing_files_last_line_is_left_out_until_it_has_an_end(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}')
    assert list(read_jsonl(path, growing=True)) == [(1, {"a": 1})]
    path.write_text('{"a": 1}\n{"a": \n{"a": 3}\n')
    with pytest.raises(DataError, match="line 2"):
        list(read_jsonl(path, growing=True))


def test_append_refuses_nan_and_writes_nothing(tmp_path):
    path = tmp_path / "rows.jsonl"
    with pytest.raises(ValueError):
        append_jsonl(path, [{"n": 1}, {"n": float("nan")}])
    assert not path.exists()


def test_read_numbers_lines_and_skips_empty_ones(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": "é"}\n\n{"a": 2}', encoding="utf-8")
    assert list(read_jsonl(path)) == [(1, {"a": "é"}), (3, {"a": 2})]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n{"a": \n', "line 2: not JSON"),
        (b'{"a": 1}\n{"a": ', "line 2: not JSON.*cut off"),
        (b"[1]\n", "line 1: a JSON object .* found list"),
        (b'{"a": "\xff"}\n', "line 1: not UTF-8"),
    ],
)
def test_read_names_file_and_line(tmp_path, content, message):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"rows.jsonl, {message}"):
        list(read_jsonl(path))


def test_read_names_a_missing_file(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        list(read_jsonl(tmp_path / "none.jsonl"))


@pytest.mark.parametrize(
    ("content", "left"),
    [
        (b"", b""),
        (b'{"a": 1}\n', b'{"a": 1}\n'),
        (b'{"a": 1}\n{"a', b'{"a": 1}\n'),
        (b'{"a', b""),
        (b"{}\n" + b"x" * 200_000, b"{}\n"),
        (b"x" * 200_000, b""),
    ],
)
def test_recover_cuts_off_the_unfinished_line_only(tmp_path, content, left):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    assert recover_jsonl(path) == len(content) - len(left)
    assert path.read_bytes() == left


def test_recover_of_an_absent_file_does_nothing(tmp_path):
    assert recover_jsonl(tmp_path / "none.jsonl") == 0
