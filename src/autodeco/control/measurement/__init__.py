"""Whether the heads follow decoding commands: the paper's Table 4 and what it leaves out, in texts of the model.

===================== =======================================================================
``cases.py``          every test prompt with one command of each condition
``run.py``            draws the texts; can be stopped and gone on with
``teacher_forced.py`` reads the texts without a command again, under every command
``results.py``        shifts, consistency and errors, with intervals
``tables.py``         the same as tables
===================== =======================================================================
"""

from autodeco.control.measurement.cases import CONDITIONS, Case, make_cases
from autodeco.control.measurement.results import ControlResults, analyse
from autodeco.control.measurement.run import MeasureSettings, measure
from autodeco.control.measurement.tables import document

__all__ = [
    "CONDITIONS",
    "Case",
    "ControlResults",
    "MeasureSettings",
    "analyse",
    "document",
    "make_cases",
    "measure",
]
