"""The ``autodeco`` command: one file a subcommand, each thin; errors a user can act on exit with status 2."""

from autodeco.cli.app import main

__all__ = ["main"]
