"""Draws the documentation's own figures: `python docs/figures.py` writes soft_top_p.svg. Measures nothing."""

from __future__ import annotations

from pathlib import Path

import torch

from autodeco import distribution
from autodeco.evaluation.report.figures import Mark, lines
from autodeco.files import atomic_write_text
from autodeco.statistics import Estimate

LOGITS = [3.2, 2.6, 2.3, 1.6, 1.2, 0.6, 0.2, -0.4, -1.0, -1.6]  # those of soft_top_p.js
DECAY = 30.0
SHOWN = (0.5, 0.9)
SOFT_TOP_P = Path(__file__).parent / "soft_top_p.svg"


def nuclei(temperature: float, top_p: float, decay: float = DECAY) -> dict[str, list[float]]:
    """Probabilities of the ten tokens: before any cut, under hard top-p, and under both forms of the soft one."""
    logits = torch.tensor(LOGITS, dtype=torch.float64) / temperature
    probabilities, threshold = logits.softmax(-1), torch.tensor(top_p, dtype=torch.float64)
    found = {
        "softmax(l / T)": probabilities,
        "hard top-p": probabilities * distribution.nucleus_mask(logits, threshold),
    }
    for name, exclusive in (("soft, inclusive", False), ("soft, exclusive", True)):
        log_weights = distribution.soft_nucleus_log_weights(probabilities, threshold, decay, exclusive=exclusive)
        found[name] = (logits.log_softmax(-1) + log_weights).softmax(-1)
    return {name: (values / values.sum()).tolist() for name, values in found.items()}


def soft_top_p() -> str:
    """The figure of method.md, as SVG."""
    panels: dict[str, list[Mark]] = {
        f"P = {top_p}, T = 1, α = {DECAY:g}": [
            (name, rank, Estimate(value, None, None, 1))
            for name, values in nuclei(1.0, top_p).items()
            for rank, value in enumerate(values, start=1)
        ]
        for top_p in SHOWN
    }
    return lines(panels, "token, by its rank", "probability")


if __name__ == "__main__":
    atomic_write_text(SOFT_TOP_P, soft_top_p())
