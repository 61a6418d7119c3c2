"""What IFEval's checkers need to know about language: sentences, words, and which language it is.

Needs nltk and langdetect, which are imported on first use.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

# Taken as the end of no sentence where NLTK's own list is not installed.
_ABBREVIATIONS = (
    *(
        "a.m",
        "approx",
        "apr",
        "assn",
        "aug",
        "ave",
        "b.c",
        "bros",
        "ca",
        "cf",
        "co",
        "corp",
        "dec",
        "dept",
        "dr",
        "e.g",
    ),
    *(
        "esp",
        "etc",
        "feb",
        "ft",
        "gen",
        "gov",
        "inc",
        "jan",
        "jr",
        "lt",
        "ltd",
        "maj",
        "messrs",
        "mr",
        "mrs",
        "ms",
    ),
    *(
        "mt",
        "nov",
        "oct",
        "p.m",
        "ph.d",
        "pp",
        "prof",
        "rev",
        "sep",
        "sept",
        "sgt",
        "sr",
        "st",
        "u.k",
        "u.n",
        "u.s",
        "v",
    ),
    "vol",
    "vs",
)


def sentence_model() -> str:
    """How sentences are counted: NLTK's trained English model if its data are installed, else an own abbreviation list.

    The published numbers are with the former (``python -m nltk.downloader punkt_tab``); results from both should not be
    compared, so the task's fingerprint holds this.
    """
    return _sentence_splitter()[0]


def count_sentences(text: str) -> int:
    """The number of sentences, by :func:`sentence_model`."""
    return len(_sentence_splitter()[1](text))


@functools.cache
def _sentence_splitter() -> tuple[str, Callable[[str], list[str]]]:
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer, PunktTokenizer

    try:
        return "punkt_tab", PunktTokenizer("english").tokenize
    except LookupError:
        parameters = PunktParameters()
        parameters.abbrev_types = set(_ABBREVIATIONS)
        return "abbreviations", PunktSentenceTokenizer(parameters).tokenize


def words(text: str) -> list[str]:
    """Words and punctuation, as NLTK divides English."""
    from nltk.tokenize import NLTKWordTokenizer

    # The published checker divides into sentences first, which only sets full stops apart: not a matter of capitals.
    return list(NLTKWordTokenizer().tokenize(text))


def language(text: str) -> str | None:
    """The language that langdetect finds, ``None`` if it finds none (which counts as following)."""
    import langdetect

    langdetect.DetectorFactory.seed = 0
    try:
        return str(langdetect.detect(text))
    except langdetect.LangDetectException:
        return None
