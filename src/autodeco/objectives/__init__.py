"""What is minimised: ``eager`` is the readable reference, ``fused`` computes the same numbers fast and in chunks."""

from autodeco.objectives import eager, fused
from autodeco.objectives.output import ObjectiveOutput

OBJECTIVES = ("end_to_end", "released")

__all__ = ["OBJECTIVES", "ObjectiveOutput", "eager", "fused"]
