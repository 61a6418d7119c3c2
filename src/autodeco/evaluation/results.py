"""The results file of evaluations: one row a sample. Written here, read here, checked in both directions.

While an evaluation runs, its rows are appended to ``samples.jsonl``; when it is done they are consolidated to
``results.parquet``. Knows nothing of how samples are made or what is computed from them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from autodeco.errors import DataError, did_you_mean
from autodeco.files import append_jsonl, read_jsonl, recover_jsonl, replaced_atomically

RUNNING_FILE = "samples.jsonl"
RESULTS_FILE = "results.parquet"
_ROWS_AT_ONCE = 4096


def _field(name: str, kind: Any, *, nullable: bool = False) -> Any:
    return pa.field(name, kind, nullable=nullable)


# model: what was evaluated. strategy: its canonical spec. problem: the example's id. correct: null where the verifier
# failed (error says how). answer: the final answer, for majority votes. tokens: length of the completion. finish:
# "stop" or "length". entropy: mean nats a token of the distribution sampled from. details: JSON.
SCHEMA = pa.schema(
    [
        _field("model", pa.string()),
        _field("task", pa.string()),
        _field("strategy", pa.string()),
        _field("split", pa.string()),
        _field("problem", pa.string()),
        _field("sample", pa.int64()),
        _field("seed", pa.int64()),
        _field("correct", pa.bool_(), nullable=True),
        _field("error", pa.string(), nullable=True),
        _field("text", pa.string()),
        _field("answer", pa.string(), nullable=True),
        _field("tokens", pa.int64()),
        _field("finish", pa.string()),
        _field("entropy", pa.float64(), nullable=True),
        _field("mean_temperature", pa.float64(), nullable=True),
        _field("mean_top_p", pa.float64(), nullable=True),
        _field("details", pa.string(), nullable=True),
    ]
)
_KEY = ("model", "task", "strategy", "problem", "sample")
_FINISHES = ("stop", "length")


class SampleKey(NamedTuple):
    """What names one sample: no two rows of a file have the same."""

    model: str
    task: str
    strategy: str
    problem: str
    sample: int


class ResultsWriter:
    """Rows on their way to disk. Opening it makes a killed run's file whole: a cut-off last line is removed.

    Where only ``results.parquet`` was kept of an earlier run, it goes on with those rows.

    One process at a time; the caller holds the lock.

    Args:
        folder: of the run; made if absent.

    Raises:
        DataError: the file there is damaged, or holds a sample twice.
        RunFolderError: the folder cannot be written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / RUNNING_FILE
        self.path.parent.mkdir(parents=True, exist_ok=True)
        recover_jsonl(self.path)
        if not self.path.exists() and self.path.with_name(RESULTS_FILE).exists():
            _restore(self.path)
        self.finished: set[SampleKey] = set()
        if self.path.exists():
            self.finished.update(_unique_keys(_running_rows(self.path), self.path))

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Appends rows, all of them or none; they are on disk when this returns.

        Raises:
            DataError: a row does not fit the schema, or its sample is there already.
            RunFolderError: the disk is full.
        """
        checked = [_checked(row, "a row to append") for row in rows]
        keys = list(_unique_keys(checked, self.path, self.finished))
        append_jsonl(self.path, checked)
        self.finished.update(keys)

    def consolidate(self) -> Path:
        """Writes everything to ``results.parquet``, replacing it atomically; returns its path.

        Raises:
            DataError: there are no samples.
        """
        target = self.path.with_name(RESULTS_FILE)
        if not self.finished:
            raise DataError(f"{self.path}: there are no samples to consolidate. Run the evaluation first.")
        with replaced_atomically(target) as temporary, pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as file:
            for rows in _batches(_running_rows(self.path)):
                file.write_table(pa.Table.from_pylist(rows, SCHEMA))
        return target


def read_results(paths: str | Path | Sequence[str | Path], *, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Reads results.

    Args:
        paths: run folders, Parquet files or JSONL files, one or several. Of a folder the rows of the run are taken as
            far as it got (also while it is being written): ``samples.jsonl`` where it is there, else
            ``results.parquet``.
        columns: only these, beside those that name a sample; ``None`` for all (``text`` is most of a file).

    Returns:
        A row a sample, typed as :data:`SCHEMA`; ``correct`` is pandas' nullable ``boolean``.

    Raises:
        DataError: no file, no samples, a file that is damaged or cut off, other columns, or a sample twice.
    """
    sources = [paths] if isinstance(paths, str | Path) else list(paths)
    wanted = [name for name in SCHEMA.names if columns is None or name in {*columns, *_KEY}]
    for name in columns or ():
        if name not in SCHEMA.names:
            raise DataError(f"results have no column '{name}'.{did_you_mean(name, SCHEMA.names)}")
    files = [(_file_of(Path(source)), Path(source).is_dir()) for source in sources]
    table = pa.concat_tables([_read(file, wanted, growing=of_folder) for file, of_folder in files])
    frame = table.to_pandas(types_mapper={pa.bool_(): pd.BooleanDtype()}.get)
    doubled = frame.duplicated(list(_KEY))
    if doubled.any():
        first = SampleKey(*frame.loc[doubled, list(_KEY)].iloc[0])
        where = ", ".join(str(source) for source in sources)
        raise DataError(
            f"{where}: {int(doubled.sum()):,} samples are there twice, the first {_described(first)}. Give each run's "
            f"folder once, and do not join files by hand."
        )
    return frame


def only_model(frame: pd.DataFrame, model: str | None = None) -> pd.DataFrame:
    """The rows of one model.

    Args:
        frame: results.
        model: which; ``None`` where there has to be only one.

    Raises:
        DataError: no such model, or several and none was named.
    """
    models = sorted(frame["model"].unique())
    if model is None and len(models) > 1:
        raise DataError(
            f"these results are of {len(models)} models ({', '.join(models)}), and their samples must not be mixed. "
            f"Name one of them."
        )
    if model is not None and model not in models:
        raise DataError(f"these results hold no model '{model}'.{did_you_mean(model, models)}")
    return frame[frame["model"] == (models[0] if model is None else model)]


def _file_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in (RUNNING_FILE, RESULTS_FILE):
        if (path / name).is_file():
            return path / name
    raise DataError(
        f"{path}: no results here; a folder with {RUNNING_FILE} or {RESULTS_FILE} is needed, as `autodeco eval` writes."
    )


def _read(path: Path, columns: list[str], *, growing: bool) -> pa.Table:
    schema = pa.schema([SCHEMA.field(name) for name in columns])
    if path.suffix == ".jsonl":
        tables = (
            pa.Table.from_pylist([{name: row[name] for name in columns} for row in rows], schema)
            for rows in _batches(_running_rows(path, growing=growing))
        )
        table = pa.concat_tables([schema.empty_table(), *tables])
    else:
        table = _read_parquet(path, schema)
    if table.num_rows == 0:
        raise DataError(f"{path}: zero samples. Run the evaluation that writes this file, or name another one.")
    return table


def _read_parquet(path: Path, schema: pa.Schema) -> pa.Table:
    if not path.is_file():
        raise DataError(f"{path}: no such file; a Parquet file or run folder of `autodeco eval` is needed.")
    try:
        found = pq.read_schema(path)
        for field in SCHEMA:
            if field.name not in found.names:
                raise DataError(f"{path}: not a results file: it has no column '{field.name}'.")
        # Casting: a column that is null throughout may have come without a type from another writer.
        return pq.read_table(path, columns=schema.names).cast(schema)
    except DataError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path}: cannot be read as results ({reason}). If it was cut off, run the same `autodeco eval` again: it "
            f"writes this file anew from the {RUNNING_FILE} beside it."
        ) from None


def _restore(path: Path) -> None:
    """Writes a running file from the consolidated one beside it."""
    try:
        table = _read_parquet(path.with_name(RESULTS_FILE), SCHEMA)
    except DataError as error:
        raise DataError(
            f"{path.with_name(RESULTS_FILE)} is damaged, and there is no {RUNNING_FILE} to write it anew from. Fetch "
            f"it again, or choose another output folder."
        ) from error
    with replaced_atomically(path) as temporary:
        for batch in table.to_batches(_ROWS_AT_ONCE):
            append_jsonl(temporary, batch.to_pylist())


def _running_rows(path: Path, *, growing: bool = False) -> Iterator[dict[str, Any]]:
    for number, row in read_jsonl(path, growing=growing):
        yield _checked(row, f"{path}, line {number}")


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while batch := list(islice(rows, _ROWS_AT_ONCE)):
        yield batch


def _unique_keys(
    rows: Iterable[Mapping[str, Any]], path: Path, known: set[SampleKey] | None = None
) -> Iterator[SampleKey]:
    seen: set[SampleKey] = set()
    for row in rows:
        key = SampleKey(*(row[name] for name in _KEY))
        if key in seen or (known and key in known):
            raise DataError(f"{path}: {_described(key)} is there twice. A sample belongs in a file once.")
        seen.add(key)
        yield key


def _described(key: SampleKey) -> str:
    return f"sample {key.sample} of problem '{key.problem}' ({key.model}, {key.task}, {key.strategy})"


def _checked(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The row in the schema's order; its values are of the schema's types."""
    for name in row:
        if name not in SCHEMA.names:
            raise DataError(f"{where}: unknown column '{name}'.{did_you_mean(name, SCHEMA.names)}")
    checked = {field.name: _value(row, field, where) for field in SCHEMA}
    if checked["finish"] not in _FINISHES:
        raise DataError(f"{where}: 'finish' is {checked['finish']!r}; 'stop' or 'length' is needed.")
    if checked["correct"] is None and checked["error"] is None:
        raise DataError(f"{where}: 'correct' is null, and 'error' does not say why the verifier failed.")
    return checked


def _value(row: Mapping[str, Any], field: Any, where: str) -> Any:
    value = row.get(field.name)
    if value is None:
        if not field.nullable:
            raise DataError(f"{where}: '{field.name}' is missing.")
        return None
    needed = {pa.string(): str, pa.bool_(): bool, pa.int64(): int, pa.float64(): float}[field.type]
    if needed is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, needed) or (needed is int and isinstance(value, bool)):
        raise DataError(f"{where}: '{field.name}' is {value!r}; {needed.__name__} is needed.")
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(f"{where}: '{field.name}' is {value}; a finite number or null is needed.")
    return value
