"""The compiled kernels: built once, found again, and done without where there is no compiler."""

import warnings

import pytest
import torch

from autodeco import distribution
from autodeco.kernels import build, cpu


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """An empty kernel cache, and a loader that has not loaded anything yet."""
    monkeypatch.setenv("AUTODECO_CACHE", str(tmp_path))
    monkeypatch.delenv("AUTODECO_KERNELS", raising=False)
    cpu.load.cache_clear()
    yield tmp_path
    cpu.load.cache_clear()


def shaped(logits):
    rows = distribution.scale_rows(logits, torch.full((len(logits),), 0.7))
    return distribution.cut_nucleus(rows, torch.full((len(logits),), 0.8))


def test_built_once_and_found_again(fresh, monkeypatch):
    if cpu.load() is None:
        pytest.skip("no C compiler here")
    (library,) = (fresh / "kernels").iterdir()
    cpu.load.cache_clear()
    monkeypatch.setattr(build.subprocess, "run", lambda *_, **__: pytest.fail("built again"))
    assert cpu.load() is not None
    assert list((fresh / "kernels").iterdir()) == [library]


@pytest.mark.parametrize(
    ("compiler", "reason"), [("false", "false ended with status 1"), ("/nowhere/cc", "no C compiler was found")]
)
def test_without_a_compiler_one_warning_and_the_same_result(fresh, monkeypatch, compiler, reason):
    expected = shaped(torch.arange(200.0).view(2, 100) / 7)
    cpu.load.cache_clear()
    monkeypatch.setenv("AUTODECO_CACHE", str(fresh / "other"))
    monkeypatch.setenv("CC", compiler)
    if "nowhere" in compiler:
        monkeypatch.setattr(build.shutil, "which", lambda _: None)
    with pytest.warns(RuntimeWarning, match=reason) as caught:
        found = shaped(torch.arange(200.0).view(2, 100) / 7)
    assert len(caught) == 1
    torch.testing.assert_close(found, expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shaped(torch.zeros(1, 5))


def test_a_damaged_library_is_built_again(fresh, monkeypatch):
    if cpu.load() is None:
        pytest.skip("no C compiler here")
    (library,) = (fresh / "kernels").iterdir()
    monkeypatch.setenv("AUTODECO_CACHE", str(fresh / "other"))
    damaged = fresh / "other" / "kernels" / library.name
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"not a library")
    cpu.load.cache_clear()
    assert cpu.load() is not None
    assert damaged.stat().st_size > 1000


def test_switched_off(fresh, monkeypatch):
    monkeypatch.setenv("AUTODECO_KERNELS", "0")
    assert cpu.load() is None
    assert not list(fresh.iterdir())


def test_results_do_not_depend_on_the_number_of_threads():
    logits = torch.randn(5, 30_000) * 4
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(shaped(logits.clone()))
    finally:
        torch.set_num_threads(threads)
    assert found[0].equal(found[1])
    assert found[0].equal(found[2])
