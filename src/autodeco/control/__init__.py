"""Decoding commands in plain words: phrasings, training the heads to follow them, and measuring whether they do.

``target.py``     what a command asks for; of two that contradict each other the later wins
``commands.py``   the phrasings, packaged and a user's own
``placement.py``  where a command stands in a conversation
"""

from autodeco.control.commands import KINDS, Command, load_commands, select
from autodeco.control.placement import POSITIONS, place, quote
from autodeco.control.target import Target, combined

__all__ = ["KINDS", "POSITIONS", "Command", "Target", "combined", "load_commands", "place", "quote", "select"]
