"""Diagnosis of adaptivity: do the heads adapt, or are they a constant in disguise?

Measured on teacher-forced tokens, without sampling. ``tokens.py`` holds the mathematics of single tokens, ``run.py``
goes over chunks of hidden states (``chunks.py``), a store's among them, ``held_out.py`` over a file of trajectories,
``result.py`` sums up, with intervals over trajectories, and ``verdict.py`` says in words what was found.
"""

from autodeco.evaluation.diagnosis.chunks import Chunk
from autodeco.evaluation.diagnosis.result import Constants, Diagnosis
from autodeco.evaluation.diagnosis.run import best_constants, diagnose, diagnose_store
from autodeco.evaluation.diagnosis.verdict import conclusion, verdict

__all__ = ["Chunk", "Constants", "Diagnosis", "best_constants", "conclusion", "diagnose", "diagnose_store", "verdict"]
