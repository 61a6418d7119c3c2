"""The page on architecture is true of the code: its folders, the direction of their imports, what the core imports."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT

PACKAGE = ROOT / "src" / "autodeco"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
FOLDERS = re.findall(r"^\| `(\w+)/` \|", PAGE, re.MULTILINE)


def imports(path: Path) -> set[str]:
    """Modules that a file imports, wherever in it, by their dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update(f"{node.module}.{name.name}" for name in node.names)
    return found


def test_every_folder_is_named_and_every_name_is_a_folder():
    assert sorted(FOLDERS) == sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_import_only_those_above_them(folder):
    names = {name for path in (PACKAGE / folder).rglob("*.py") for name in imports(path)}
    used = {name.split(".")[1] for name in names if name.startswith("autodeco.")}
    below = FOLDERS[FOLDERS.index(folder) + 1 :]
    assert used.isdisjoint(below), f"{folder}/ imports {sorted(used & set(below))}, which stand below it on the page"


def test_modules_named_on_the_page_are_there():
    missing = {name for name in re.findall(r"`(\w+\.py)`", PAGE) if not list(PACKAGE.rglob(name))}
    assert missing == set()
    unnamed = {path.name for path in PACKAGE.glob("[a-z]*.py") if f"`{path.name}`" not in PAGE}
    assert unnamed == set()


@pytest.mark.parametrize("module", ["distribution.py", "heads.py", "networks.py"])
def test_the_core_imports_neither_transformers_nor_its_users(module):
    own = {name for name in imports(PACKAGE / module) if name.startswith("autodeco")}
    assert own <= {
        "autodeco.distribution",
        "autodeco.config.AutoDecoConfig",
        "autodeco.errors.ConfigError",
        "autodeco.kernels.cpu",
        "autodeco.kernels.decoding_kernels",
        "autodeco.networks.PromptPooling",
        "autodeco.networks.TemperatureHead",
        "autodeco.networks.TopPHead",
    }
    assert not {name for name in imports(PACKAGE / module) if name.startswith("transformers")}
