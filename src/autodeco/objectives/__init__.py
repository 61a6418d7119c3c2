"""What is minimised: ``eager`` is the readable reference, ``fused`` computes the same numbers fast and in chunks.

``control`` adds to either what teaches decoding commands.
"""

from autodeco.objectives import control, eager, fused
from autodeco.objectives.output import ObjectiveOutput

OBJECTIVES = ("end_to_end", "released")

__all__ = ["OBJECTIVES", "ObjectiveOutput", "control", "eager", "fused"]
