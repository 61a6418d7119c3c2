"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from autodeco.errors import ConfigError, did_you_mean

# Addresses that other machines do not reach.
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def _apply_config(context: typer.Context, path: Path | None) -> Path | None:
    """Makes a YAML file's values the defaults of the command's other options, so that flags win over them."""
    if path is None:
        return None
    from autodeco.training.config import load_yaml

    values = load_yaml(path)
    names = {parameter.name for parameter in context.command.params if parameter.name} - {"config", "help"}
    check_names(values, names, str(path))
    context.default_map = {**(context.default_map or {}), **values}
    return path


def check_names(values: dict[str, Any], names: set[str], source: str) -> None:
    """Checks the keys of a configuration file.

    Raises:
        ConfigError: an unknown key; the nearest valid one is suggested.
    """
    for name in values:
        if name not in names:
            raise ConfigError(f"{source}: unknown setting '{name}'.{did_you_mean(name, names)}")


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE.yaml",
        help="Read options from a YAML file (option names with underscores); flags given here win.",
        callback=_apply_config,
        is_eager=True,
    ),
]


BaseModelOption = Annotated[str | None, typer.Option(help="Instead of the base that the heads record.")]
DtypeOption = Annotated[str, typer.Option(help="Of the base: auto, bfloat16 or float32.")]


def was_given(context: typer.Context, name: str) -> bool:
    """Whether an option was given on the command line (rather than defaulted)."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def training_values(context: typer.Context, recipes: str) -> dict[str, Any]:
    """Settings of a training command: of ``--recipe``, of ``--config``, of its other options and of ``--set``.

    Each overrules those before it.

    Args:
        context: of the command.
        recipes: package whose recipes ``--recipe`` names.

    Raises:
        ConfigError: no such recipe, a file that cannot be read, or a ``--set`` without ``=``.
    """
    from autodeco.training.config import load_recipe, load_yaml

    options = dict(context.params)
    recipe, config, assignments = (options.pop(name) for name in ("recipe", "config", "set_"))
    values = load_recipe(recipe, recipes) if recipe else {}
    if config is not None:
        values |= load_yaml(config)
    flags = {name: value for name, value in options.items() if was_given(context, name)}
    return values | flags | parse_settings(assignments or [])


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """Reads ``--set NAME=VALUE`` flags.

    Raises:
        ConfigError: one has no ``=``.
    """
    values = {}
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not separator:
            raise ConfigError(f"--set needs NAME=VALUE, found '{setting}'.")
        values[name.strip().replace("-", "_")] = yaml.safe_load(value)
    return values
