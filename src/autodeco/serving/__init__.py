"""Serving heads: vLLM's plug-in and the start of its OpenAI-compatible server."""
