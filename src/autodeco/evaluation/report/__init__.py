"""The report: from result rows to one HTML page and Markdown, with the paper's tables and figures in its layout.

``document.py`` is what both renderers take: sections of text, tables and figures, all of it plain text. ``accuracy.py``
and ``adaptivity.py`` fill sections, ``figures.py`` draws, ``html.py`` and ``markdown.py`` render and escape,
``build.py`` puts it together and writes.
"""

from autodeco.evaluation.report.build import build, write_report

__all__ = ["build", "write_report"]
