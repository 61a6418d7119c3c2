"""The package's version: read by the build, written into every adapter and provenance file."""

__version__ = "0.1.0"
