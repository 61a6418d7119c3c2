"""Reading training rows: a JSONL file or a hub data set, each row with the name that errors call it by."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from autodeco.errors import DataError


class Row(NamedTuple):
    """One training example as it was found."""

    name: str  # "file.jsonl:12" or "owner/dataset[12]"
    values: dict[str, Any] | None  # None if the line could not be read
    problem: str | None  # why, in that case


def read_rows(source: str, split: str = "train") -> Iterator[Row]:
    """Reads training data.

    Args:
        source: a JSONL file (``.jsonl`` or ``.json`` with one object a line), a local data-set folder, or a hub id.
        split: of a hub data set.

    Yields:
        Rows in order. A malformed line comes as a row with a ``problem``, so that the caller can stop or skip it.

    Raises:
        DataError: nothing can be read from ``source`` at all.
    """
    path = Path(source)
    if path.is_file():
        yield from _read_jsonl(path)
    elif path.suffix in (".jsonl", ".json", ".parquet", ".csv"):
        raise DataError(f"data file {source} does not exist. Give an existing JSONL file or a hub data-set id.")
    else:
        yield from _read_dataset(source, split)


def _read_jsonl(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            name = f"{path}:{number}"
            try:
                values = json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                yield Row(name, None, f"not valid JSON ({error})")
                continue
            if not isinstance(values, dict):
                yield Row(name, None, f"a row must be a JSON object, found {type(values).__name__}")
                continue
            yield Row(name, values, None)


def _read_dataset(source: str, split: str) -> Iterator[Row]:
    import datasets

    try:
        dataset = datasets.load_dataset(source, split=split)
    except Exception as error:  # `datasets` raises many types, down to plain ValueError and OSError
        raise DataError(
            f"training data '{source}' is neither a file nor a data set that can be loaded (split '{split}'): "
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        ) from error
    for index, values in enumerate(dataset):
        yield Row(f"{source}[{index}]", dict(values), None)
