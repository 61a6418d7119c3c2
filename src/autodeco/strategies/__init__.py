"""Decoding strategies that take the heads' place: static settings, training-free rivals, controls for adaptivity.

Below serving and evaluation; knows the heads and the distribution, no engine.

==================  ====================================================================================
``base.py``         what a strategy is
``static.py``       greedy, default, any static setting, the heads' own means
``p_less.py``       truncation at the collision probability
``logit_shape.py``  truncation by the shape of the logits: top-nσ and min-k
``entropy.py``      temperatures that follow the entropy: EDT and dynatemp
``learned.py``      both heads, or one alone
``shuffled.py``     the heads' own values, dealt to other tokens
``measured.py``     the numbers that the two controls are made of
``registry.py``     strategies by their spec
==================  ====================================================================================
"""

from autodeco.strategies.base import Strategy
from autodeco.strategies.entropy import Dynatemp, EntropyDynamicTemperature
from autodeco.strategies.learned import AutoDeco, TemperatureHeadAlone, TopPHeadAlone
from autodeco.strategies.logit_shape import MinK, TopNSigma
from autodeco.strategies.measured import heads_choices, means_of_trace, measured_means
from autodeco.strategies.p_less import PLess, PLessNorm
from autodeco.strategies.registry import get_strategy, strategy_names
from autodeco.strategies.shuffled import Shuffled, load_bank, save_bank
from autodeco.strategies.static import Default, Greedy, MeanShift, Static

__all__ = [
    "AutoDeco",
    "Default",
    "Dynatemp",
    "EntropyDynamicTemperature",
    "Greedy",
    "MeanShift",
    "MinK",
    "PLess",
    "PLessNorm",
    "Shuffled",
    "Static",
    "Strategy",
    "TemperatureHeadAlone",
    "TopNSigma",
    "TopPHeadAlone",
    "get_strategy",
    "heads_choices",
    "load_bank",
    "means_of_trace",
    "measured_means",
    "save_bank",
    "strategy_names",
]
