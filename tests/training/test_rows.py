import pytest

from autodeco.errors import DataError
from autodeco.training.rows import read_rows


def test_lines_are_named_by_file_and_number(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n\n{"prompt": \n[1]\n')
    rows = list(read_rows(str(path)))
    assert [row.name for row in rows] == [f"{path}:1", f"{path}:3", f"{path}:4"]
    assert rows[0].values == {"prompt": "a", "completion": "b"}
    assert "not valid JSON" in rows[1].problem
    assert "must be a JSON object, found list" in rows[2].problem


def test_a_line_that_is_not_utf8_is_a_bad_row(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'{"prompt": "\xff\xfe"}\n')
    assert "not valid JSON" in next(iter(read_rows(str(path)))).problem


def test_a_missing_file_is_not_taken_for_a_hub_id(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        list(read_rows(str(tmp_path / "absent.jsonl")))


def test_a_data_set_that_cannot_be_loaded_is_named():
    with pytest.raises(DataError, match="nobody/nothing"):
        list(read_rows("nobody/nothing"))


def test_a_local_data_set_folder(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    rows = list(read_rows(str(tmp_path)))
    assert rows[0].values == {"prompt": "a", "completion": "b"}
    assert rows[0].name.endswith("[0]")
