"""Where a benchmark's rows come from: a hub data set, or a file or folder that the user names. Knows no benchmark."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autodeco.errors import DataError
from autodeco.files import read_jsonl

Row = dict[str, Any]

_SUFFIXES = (".jsonl", ".json", ".parquet", ".csv", ".jsonl.gz")


@dataclass(frozen=True)
class Source:
    """Where a benchmark is published.

    Attributes:
        hub_id: of the data set on the Hugging Face hub; ``None`` if it is not there.
        config: the data set's configuration.
        split: the data set's split that holds the problems.
        files: what a local copy may be called, without suffix, where ``--data`` names a folder.
        remark: what else a user must do to get it.
    """

    hub_id: str | None
    config: str | None = None
    split: str = "test"
    files: tuple[str, ...] = ()
    remark: str = ""


def read_rows(task: str, source: Source, data: Path | None) -> list[Row]:
    """Reads all rows, from ``data`` if given and else from the hub.

    Args:
        task: the task's name, for errors.
        source: where it is published.
        data: a file (JSONL, JSON list, Parquet, CSV), or a folder that holds one under a name that ``source`` knows.

    Raises:
        DataError: the data are absent or cannot be read; says how to get them.
    """
    if data is None:
        rows = _read_hub(task, source)
    else:
        rows = [row for path in _local_files(task, source, data) for row in _read_file(path)]
    if not rows:
        raise DataError(f"task '{task}': no problems in {data or source.hub_id}.")
    return rows


def field(row: Row, names: Sequence[str], where: str) -> Any:
    """The first of these fields that a row has; copies of a data set name them differently.

    Raises:
        DataError: it has none of them.
    """
    for name in names:
        if row.get(name) is not None:
            return row[name]
    raise DataError(f"{where}: a field '{names[0]}' is needed, found {', '.join(row) or 'nothing'}.")


def _read_hub(task: str, source: Source) -> list[Row]:
    if source.hub_id is None:
        raise DataError(f"task '{task}' is not on the hub. {_how_to_get(source)}")
    from datasets import load_dataset

    try:
        return [dict(row) for row in load_dataset(source.hub_id, source.config, split=source.split)]
    except Exception as error:  # its many ways to say "absent": no network, no access, unknown id, ...
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(
            f"task '{task}': its data could not be read from the hub ({reason}). {_how_to_get(source)}"
        ) from error


def _how_to_get(source: Source) -> str:
    steps = [source.remark] if source.remark else []
    if source.hub_id:
        steps.append(f"On a machine with network: hf download --repo-type dataset {source.hub_id} --local-dir FOLDER.")
    names = " or ".join(f"{name}.jsonl" for name in source.files)
    steps.append(f"Name the file, or a folder that holds {names}, with --data.")
    return " ".join(steps)


def _local_files(task: str, source: Source, data: Path) -> list[Path]:
    if data.is_file():
        return [data]
    if not data.is_dir():
        raise DataError(f"task '{task}': {data} is neither a file nor a folder. {_how_to_get(source)}")
    wanted = [data / f"{name}{suffix}" for name in source.files for suffix in _SUFFIXES]
    for path in wanted:
        if path.is_file():
            return [path]
    for folder in (data / (source.config or "data"), data / "data", data):  # as a hub data set lies in its repository
        shards = sorted(folder.glob(f"{source.split}-*.parquet"))
        if shards:
            return shards
    raise DataError(
        f"task '{task}': {data} holds none of {', '.join(sorted({path.name for path in wanted}))}. "
        f"{_how_to_get(source)}"
    )


def _read_file(path: Path) -> list[Row]:
    suffix = next((suffix for suffix in _SUFFIXES if path.name.endswith(suffix)), None)
    try:
        match suffix:
            case ".jsonl":
                return [row for _, row in read_jsonl(path)]
            case ".jsonl.gz":
                with gzip.open(path, "rt", encoding="utf-8") as file:
                    return [json.loads(line) for line in file if line.strip()]
            case ".json":
                return _objects(json.loads(path.read_text("utf-8")), path)
            case ".csv":
                with path.open(encoding="utf-8", newline="") as file:
                    return list(csv.DictReader(file))
            case ".parquet":
                import pyarrow.parquet

                return list(pyarrow.parquet.read_table(path).to_pylist())
    except (OSError, ValueError, EOFError, zlib.error) as error:  # the last two: a compressed file that was cut off
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read ({type(error).__name__}: {error}).") from error
    raise DataError(f"{path}: a file that ends in {', '.join(_SUFFIXES)} is needed.")


def _objects(content: Any, path: Path) -> list[Row]:
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise DataError(f"{path}: a JSON list of objects is needed, found {type(content).__name__}.")
    return content
