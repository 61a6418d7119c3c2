"""Every code block of README and documentation is tried: Python runs, settings and command lines are parsed."""

from __future__ import annotations

import unittest
from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, ROOT, document_of, parse_arguments
from tests.docs.stand_ins import names, prepare


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_blocks(page, workplace, subtests):
    document = document_of(page)
    document.namespace.update(names(workplace))
    for example in document.examples():
        with subtests.test(f"{page.name}:{example.line}"):
            try:
                example.evaluate()
            except unittest.SkipTest as reason:
                pytest.skip(f"{page.name}:{example.line} is not run: {reason}")


def page_of(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    return [*document_of(page).examples()]


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ("```python\nraise ValueError('here')\n```", "here"),
        ("```\nautodeco train --modle x\n```", "modle"),
        ("```\nautodeco rollout --model x --task y --output z --samples many\n```", "valid integer"),
        ("```\nautodeco rollout --model x\n```", "task"),
        ("```console\n$ autodeco control tryy runs/control\noutput\n```", "tryy"),
        ("```\nmake everything\n```", "targets are"),
        ("```\npython -m pytest tests/test_modelling.py\n```", "there is no"),
        ("```\nCUDA_VISIBLE_DEVICES=0 autodeco train --modle x\n```", "modle"),
        ('```\npip install "autodeco[everything]"\n```', "extras"),
        ("```\ncurl http://127.0.0.1\n```", "Say why"),
        ("```yaml\nmodels: [m]\ntasks: [t]\noutput: o\nsample: 3\n```", "sample"),
        ("```yaml\nmodel: m\ndata: d\noutput: o\nlearning_rate: fast\n```", "learning_rate"),
        ("```yaml\npositions: [nowhere]\n```", "positions"),
        ("```yaml\n- kind: lower\n  texts: [Less.]\n```", "lower"),
        ("Run `autodeco train --modle x` first.", "modle"),
        ("<!-- not run: needs a server -->\n```\ncurl http://127.0.0.1\nautodeco serve\n```", "model"),
        ("<!-- not run: needs a server -->\n```\nautodeco doctor\n```", "excuse"),
        ("<!-- not run: needs a server -->\n```python\nfrom import client\n```", "invalid syntax"),
    ],
)
def test_a_wrong_block_is_found(block, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = page_of(tmp_path, block)
    with pytest.raises(Exception, match=reason):
        example.evaluate()


def test_a_reason_excuses_one_block_only(tmp_path):
    block = "```\ncurl http://127.0.0.1\n```\n"
    first, second = page_of(tmp_path, f"<!-- not run: needs a server -->\n{block}\n{block}")
    with pytest.raises(unittest.SkipTest, match="needs a server"):
        first.evaluate()
    with pytest.raises(AssertionError, match="Say why"):
        second.evaluate()


def test_blocks_of_a_page_share_names(tmp_path):
    first, second = page_of(tmp_path, "```python\na = 1\n```\n\n```python\nassert a == 1\n```\n")
    first.evaluate()
    second.evaluate()


def test_nothing_runs_when_arguments_are_parsed(capsys):
    parse_arguments(["doctor"])
    assert capsys.readouterr().out == ""
