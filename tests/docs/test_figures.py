"""The documentation's own figure shows what the package computes."""

from __future__ import annotations

import re

import pytest

from tests.docs.figures import figures


def test_hard_and_soft_nucleus_of_the_figure():
    found = figures.nuclei(1.0, 0.5)
    p = found["softmax(l / T)"]
    assert p[0] < 0.5 < p[0] + p[1]  # the second token crosses
    assert found["hard top-p"] == pytest.approx([p[0] / (p[0] + p[1]), p[1] / (p[0] + p[1]), *[0] * 8])
    weights = [p[0], p[1] * 2.718281828459045 ** (-30 * (p[0] + p[1] - 0.5))]
    assert found["soft, inclusive"][1] / found["soft, inclusive"][0] == pytest.approx(weights[1] / weights[0])
    assert found["soft, exclusive"][1] / found["soft, exclusive"][0] == pytest.approx(p[1] / p[0])


def test_the_picture_is_drawn_from_these_numbers():
    label = re.compile(r'aria-label="token, by its rank: (\d+); probability: (\d+)%; series: ([^"]+)"')
    drawn = {found.groups() for found in label.finditer(figures.SOFT_TOP_P.read_text(encoding="utf-8"))}
    expected = {
        (str(rank), f"{value:.0%}".rstrip("%"), name)
        for top_p in figures.SHOWN
        for name, values in figures.nuclei(1.0, top_p).items()
        for rank, value in enumerate(values, start=1)
    }
    assert drawn == expected, "docs/soft_top_p.svg is of other numbers: python docs/figures.py draws it again"


def test_the_script_has_the_same_logits():
    script = figures.SOFT_TOP_P.with_suffix(".js").read_text(encoding="utf-8")
    assert f"const LOGITS = {figures.LOGITS};" in script
