"""The demonstration: the bundled model learns to decode itself, from sampling to measured comparison."""

from autodeco.demo.run import DemoSettings, run_demo

__all__ = ["DemoSettings", "run_demo"]
