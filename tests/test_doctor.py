"""What ``autodeco doctor`` finds, and the commands it names."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import autodeco
from autodeco import doctor
from autodeco.kernels import build, cpu
from tests.cli.test_app import run

ABSENT = Requirement("no-such-package-of-anyone>=1.5")


def findings():
    return {finding.name: finding for finding in doctor.examine()}


def test_unmet_requirements():
    numpy = importlib.metadata.version("numpy")
    given = [Requirement("numpy"), Requirement(f"numpy=={numpy}"), Requirement("numpy>=999"), ABSENT]
    assert [(str(requirement), found) for requirement, found in doctor.unmet(given)] == [
        ("numpy>=999", f"found {numpy}, needed >=999"),
        ("no-such-package-of-anyone>=1.5", "not installed"),
    ]


def test_extras_of_a_requirement_are_looked_into(monkeypatch):
    lists = {
        "outer": ["inner[more]>=1"],
        "inner": [f"{ABSENT}; extra == 'more'", "absent-without-more; extra == 'other'"],
    }
    monkeypatch.setattr(importlib.metadata, "requires", lists.get)
    monkeypatch.setattr(doctor, "_version", lambda name: "1.0" if name in lists else None)
    assert list(doctor.unmet([Requirement("outer"), Requirement("inner[more]>=1")])) == [(ABSENT, "not installed")]


def test_this_machine(capsys):
    status, out, err = run(capsys, "doctor")
    assert status == 0, out + err
    for name in ("torch", "transformers", "C compiler", "smollm2-135m"):
        assert name in out
    assert "The core works." in out


def test_a_missing_package_of_the_core_is_status_2_with_its_command(capsys, monkeypatch):
    original = doctor._requirements
    monkeypatch.setattr(
        doctor, "_requirements", lambda package, extra: [*original(package, extra), *([] if extra else [ABSENT])]
    )
    status, out, _ = run(capsys, "doctor")
    assert status == 2
    assert "!!  no-such-package-of-anyone: not installed" in out
    assert f"! {sys.executable} -m pip install 'no-such-package-of-anyone>=1.5'" in out
    assert "The core does not work." in out


def test_kernels_that_cannot_be_built_are_told_and_do_without(monkeypatch, tmp_path):
    monkeypatch.setenv("AUTODECO_CACHE", str(tmp_path))
    monkeypatch.setattr(build, "compiler_command", lambda: (_ for _ in ()).throw(FileNotFoundError("no C compiler")))
    cpu.load.cache_clear()
    try:
        found = findings()
    finally:
        cpu.load.cache_clear()
    assert found["C compiler"].state == "absent"
    assert "no C compiler" in found["CPU kernels"].found
    assert found["CPU kernels"].remedy == "apt-get install gcc libc6-dev"
    assert found["decoding step"].state == "ok"
    assert found["smollm2-135m"].found != "there"


@pytest.mark.parametrize("module", ["torch", "transformers"])
def test_a_library_that_cannot_be_imported_is_found_broken(module):
    code = f"import sys; sys.modules['{module}'] = None; from autodeco.cli import main; main(['doctor'])"
    environment = {**os.environ, "PYTHONPATH": str(Path(autodeco.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=90)
    assert done.returncode == 2, done.stderr
    assert f"!!  import {module}" in done.stdout
    assert "Traceback" not in done.stderr
