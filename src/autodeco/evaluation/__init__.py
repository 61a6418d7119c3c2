"""Measuring decoding: results, metrics, comparisons, the frontier, the diagnosis of adaptivity, and the report."""
