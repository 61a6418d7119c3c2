"""A conversation with a model in the terminal: ``conversation.py`` holds it, ``session.py`` speaks with the user."""
