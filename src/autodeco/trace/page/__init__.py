"""Traces as one self-contained HTML page: no network, no framework, readable without JavaScript."""

from autodeco.trace.page.document import MAX_RUNS, render_page, write_page

__all__ = ["MAX_RUNS", "render_page", "write_page"]
