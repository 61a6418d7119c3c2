"""Pass@1 of each pair of heads, AutoDeco less its own mean, its own values shuffled, default and the first pair, with
the entropy of what each samples; and how far AutoDeco lies above the line of static temperatures at its entropy.

python benchmarks/adaptivity/heads_compared.py benchmarks/results/adaptivity/smollm2/eval{,-improved,-rounds}
python benchmarks/adaptivity/heads_compared.py --without letters benchmarks/results/adaptivity/smollm2/eval{,-rounds}
"""

from __future__ import annotations

import argparse

import pandas as pd

from autodeco.evaluation.comparison import compare
from autodeco.evaluation.frontier import frontier
from autodeco.evaluation.metrics import problem_metrics
from autodeco.evaluation.report.document import points
from autodeco.evaluation.results import read_results
from autodeco.evaluation.specs import kind_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    tasks = parser.add_mutually_exclusive_group()
    tasks.add_argument("--without", metavar="TASK")
    tasks.add_argument("--only", metavar="TASK")
    given = parser.parse_args()
    rows = pd.concat([read_results([folder]) for folder in given.folders], ignore_index=True)
    chosen = [given.only] if given.only else [task for task in rows["task"].unique() if task != given.without]
    rows = rows[rows["task"].isin(chosen)]
    kind = rows["strategy"].map(kind_of)
    rows = rows[kind.isin(["default", "static", "autodeco", "mean-shift", "shuffled"])].copy()
    # All as strategies of one model: the base is the same, and so are problems and seeds.
    is_static = kind.isin(["default", "static"])
    own = rows["strategy"].where(kind == "autodeco", kind)  # with the factor on T, where there is one
    rows["strategy"] = rows["strategy"].where(is_static, rows["model"] + " " + own)
    adaptive = list(dict.fromkeys(rows["strategy"][kind == "autodeco"]))
    rows["model"] = "one"
    table = problem_metrics(rows, text_metrics=False)
    entropy = table["entropy"].groupby(level="strategy").mean()
    has_line = is_static.any() and rows["strategy"][is_static].nunique() > 1
    above = {point.strategy: point for point in frontier(table).points} if has_line else {}
    for autodeco in adaptive:
        model = autodeco.split(" ")[0]
        own = rows[rows["strategy"] == autodeco]
        pass_at_2 = table["pass@2"].xs(autodeco, level="strategy").mean()
        mean = own["mean_temperature"].mean()
        print(f"{autodeco}: {own['correct'].mean():.1%}, Pass@2 {pass_at_2:.1%}, mean T {mean:.2f}")
        # With a factor on their T heads are not compared with their unscaled mean: that would compare levels.
        controls = [] if ":" in autodeco else [f"{model} mean-shift", f"{model} shuffled"]
        for other in (*controls, "default", adaptive[0]):
            if other != autodeco and (rows["strategy"] == other).any():
                found = compare(rows, autodeco, other)
                print(
                    f"  less {other:26} {points(found.difference, found.low, found.high)}, p = {found.p_value:.3f}, "
                    f"{found.problems:,} problems; at {entropy[other]:.2f} nats"
                )
        point = above.get(autodeco)
        distance = point.to_curve if point else None
        if point and distance is not None and distance.low is not None:
            above_line = points(distance.value, distance.low, distance.high)
            print(f"  above static temperatures       {above_line} at {point.diversity.value:.2f} nats")


if __name__ == "__main__":
    main()
