"""The quick start, block by block, with the bundled model. The demo's heads are new ones: its own test trains some."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from autodeco import AutoDecoForCausalLM

ROOT = Path(__file__).parents[2]


def first_hour():
    specification = importlib.util.spec_from_file_location("first_hour", ROOT / "benchmarks" / "first_hour.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.timeout(1800)  # twenty minutes of a user's: six here on a quiet machine, past ten beside other work
def test_every_step_of_the_quick_start(tmp_path, subtests):
    AutoDecoForCausalLM.from_base("smollm2-135m").save_pretrained(tmp_path / "demo-run" / "heads")
    module = first_hour()
    steps = [step for step in module.steps(ROOT / module.PAGE) if not step.text.startswith("make ")]
    assert len(steps) > 10
    for step in steps:
        with subtests.test(step.text.splitlines()[0]):
            module.run(step, tmp_path, Path(sys.executable).parent)
    assert (tmp_path / "first.html").exists()
    assert list((tmp_path / "runs" / "heads").glob("*.safetensors"))
    assert list((tmp_path / "runs" / "eval" / "report").glob("*.html"))
