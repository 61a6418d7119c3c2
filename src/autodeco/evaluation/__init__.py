"""Measuring decoding: statistics of accuracies and (later) strategies, runs and reports."""
