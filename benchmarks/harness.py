"""What every benchmark here shares: sides measured in turn in one run, medians with their spread, results on disk.

A side is a function. In each round every side runs once, so that a slow minute of the machine hits all of them, and a
ratio is taken within each round. Results go to ``benchmarks/results/NAME``: ``results.json`` with provenance, a table
in ``README.md`` and a picture. ``--quick`` runs everything small and writes nothing: it checks that it runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from autodeco import provenance

RESULTS = Path(__file__).parent / "results"
Side = Callable[[], Any]


class Spread(NamedTuple):
    """Minimum, median and maximum of a figure over the rounds."""

    min: float
    median: float
    max: float

    def __str__(self) -> str:
        return f"{_short(self.median)} ({_short(self.min)} to {_short(self.max)})"


def spread(values: list[float]) -> Spread:
    return Spread(min(values), statistics.median(values), max(values))


def interleaved(sides: dict[str, Side], rounds: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Seconds of every side in every round.

    Args:
        sides: functions by name; each round runs them in this order.
        rounds: measured rounds.
        warm_up: rounds before, not measured.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(warm_up + rounds):
        for name, side in sides.items():
            started = time.perf_counter()
            side()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - started)
        print(f"  round {number + 1} of {warm_up + rounds}", file=sys.stderr, flush=True)
    return seconds


def ratio(numerator: list[float], denominator: list[float]) -> Spread:
    """Ratio within each round."""
    return spread([a / b for a, b in zip(numerator, denominator, strict=True)])


def in_fresh_process(script: str, *arguments: str) -> Any:
    """Runs ``script --worker ARGUMENTS`` and returns the JSON of the last line it prints (for peaks of memory)."""
    command = [sys.executable, script, "--worker", *arguments]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{result.stderr[-2000:]}")
    return json.loads(result.stdout.splitlines()[-1])


class PeakMemory:
    """The peak of this process's resident memory within the block, above what it held at its start, in MB (Linux)."""

    def __enter__(self) -> PeakMemory:
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to the present
        self._before = _resident("VmRSS")
        return self

    def __exit__(self, *_: Any) -> None:
        self.megabytes = _resident("VmHWM") - self._before


def _resident(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def parser(description: str | None) -> argparse.ArgumentParser:
    """Arguments that every benchmark takes."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="small and unsaved: only whether it runs")
    made.add_argument("--rounds", type=int, default=7, help="measured rounds (default 7)")
    made.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    return made


def save(name: str, title: str, rows: list[dict[str, Any]], *, quick: bool, chart: Any = None, **settings: Any) -> None:
    """Prints the table and, unless ``quick``, writes it with provenance and a picture.

    Args:
        name: of the folder under ``results``.
        title: heading.
        rows: the table, one dictionary a row; values are text, numbers or :class:`Spread`.
        quick: print only.
        chart: an Altair chart.
        **settings: for the provenance.
    """
    columns = list(rows[0])
    lines = [f"| {' | '.join(columns)} |", f"| {' | '.join('---' for _ in columns)} |"]
    lines += [f"| {' | '.join(_cell(row[column]) for column in columns)} |" for row in rows]
    table = "\n".join(lines)
    print(table)
    if quick:
        return
    folder = RESULTS / name
    folder.mkdir(parents=True, exist_ok=True)
    record = provenance.collect(threads=torch.get_num_threads(), processor=_processor(), **settings)
    plain = [
        {key: value._asdict() if isinstance(value, Spread) else value for key, value in row.items()} for row in rows
    ]
    (folder / "results.json").write_text(json.dumps({"results": plain, "provenance": record}, indent=2) + "\n")
    picture = ""
    if chart is not None:
        chart.save(str(folder / "plot.svg"))
        picture = f"\n![{title}](plot.svg)\n"
    source = (
        f"`{' '.join(record['command'])}`, {record['date'][:10]}, {record['processor']}, {record['threads']} threads, "
        f"torch {record['packages']['torch']}, revision {str(record['git_revision'])[:12]}. Figures are medians "
        f"(minimum to maximum) over rounds in which all sides ran in turn."
    )
    (folder / "README.md").write_text(f"# {title}\n\n{table}\n{picture}\n{source}\n")


def bars(rows: list[dict[str, Any]], x: str, y: str, title: str) -> Any:
    """A horizontal bar for each row (``y`` its name, ``x`` a Spread), with the spread as a line; needs Altair."""
    try:
        import altair
    except ImportError:  # in an engine's own environment
        return None

    data = altair.Data(
        values=[{"side": row[y], "value": row[x].median, "low": row[x].min, "high": row[x].max} for row in rows]
    )
    order = [row[y] for row in rows]
    base = altair.Chart(data).encode(y=altair.Y("side:N", sort=order, title=None, axis=altair.Axis(labelLimit=400)))
    shown = base.mark_bar(color="#7f9fc5").encode(x=altair.X("value:Q", title=title))
    whiskers = base.mark_rule(color="#333333", strokeWidth=2).encode(x="low:Q", x2="high:Q")
    return (shown + whiskers).properties(width=520)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "unknown processor"


def _cell(value: Any) -> str:
    return _short(value) if isinstance(value, float) else str(value)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
