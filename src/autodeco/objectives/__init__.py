"""What is minimised: ``eager`` is the readable reference of every objective."""

from autodeco.objectives import eager
from autodeco.objectives.output import ObjectiveOutput

OBJECTIVES = ("end_to_end", "released")

__all__ = ["OBJECTIVES", "ObjectiveOutput", "eager"]
