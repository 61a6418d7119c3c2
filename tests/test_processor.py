from pathlib import Path

import pytest

from autodeco import processor


@pytest.mark.parametrize(
    ("text", "lacks"),
    [
        ("processor : 0\nflags\t\t: fpu avx2 avx512f avx512_bf16\n", False),
        ("flags\t\t: fpu avx2 amx_bf16 amx_tile\n", False),
        ("flags\t\t: fpu avx2 avx512f\n", True),
        ("Features\t: fp asimd bf16\n", False),
        ("Features\t: fp asimd\n", True),
        ("model name : unknown\n", False),  # nobody knows: nothing is said
    ],
)
def test_bfloat16_by_what_the_system_lists(text, lacks, tmp_path, monkeypatch):
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    monkeypatch.setattr(processor, "_CPUINFO", path)
    assert processor.lacks_bfloat16() == lacks


def test_a_system_that_lists_nothing(monkeypatch):
    monkeypatch.setattr(processor, "_CPUINFO", Path("absent"))
    assert not processor.lacks_bfloat16()
    assert processor.description()
