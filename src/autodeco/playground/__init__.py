"""The playground: a page in the browser to try a model in. Everything here but ``app.py`` does without Gradio."""
