"""Decoding commands in plain words: phrasings, training the heads to follow them, and measuring whether they do.

``target.py``     what a command asks for; of two that contradict each other the later wins
``command.py``    a command, and the group of a file that makes some
``patterns.py``   phrasings with alternatives
``commands.py``   the phrasings, packaged and a user's own
``placement.py``  where a command stands in a conversation
"""

from autodeco.control.command import KINDS, Command
from autodeco.control.commands import load_commands, select
from autodeco.control.placement import POSITIONS, place, quote
from autodeco.control.target import Target, combined

__all__ = ["KINDS", "POSITIONS", "Command", "Target", "combined", "load_commands", "place", "quote", "select"]
