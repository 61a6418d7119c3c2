"""IFEval's 25 instructions, one small function each: does a response follow it?

Definitions: Zhou et al., "Instruction-Following Evaluation for Large Language Models", arXiv 2311.07911, and their
published checkers, whose behaviour is kept, oddities included (a section marker is a pattern, not a text; a list item
begins with any ``-``), with three exceptions that only make it repeatable: language detection is seeded; the frequency
of a character that is no letter is counted (there, a random letter was); sentences are counted with an own list of
abbreviations where NLTK's English model is not installed (``ifeval_text.py``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from autodeco.tasks.benchmarks.ifeval_text import count_sentences, language, words

Arguments = Mapping[str, Any]

_ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def _compare(count: int, relation: str, threshold: int) -> bool:
    if relation == "less than":
        return count < threshold
    if relation == "at least":
        return count >= threshold
    raise ValueError(f"the relation must be 'less than' or 'at least', found {relation!r}")


def keywords_existence(text: str, given: Arguments) -> bool:
    """All keywords occur, whatever their case, also inside words."""
    return all(re.search(keyword, text, re.IGNORECASE) for keyword in given["keywords"])


def keyword_frequency(text: str, given: Arguments) -> bool:
    """A keyword occurs so often, whatever its case, also inside words."""
    count = len(re.findall(given["keyword"].strip(), text, re.IGNORECASE))
    return _compare(count, given["relation"], given["frequency"])


def forbidden_words(text: str, given: Arguments) -> bool:
    """None of the words occurs as a whole word."""
    return not any(re.search(rf"\b{word}\b", text, re.IGNORECASE) for word in given["forbidden_words"])


def letter_frequency(text: str, given: Arguments) -> bool:
    """A character occurs so often, whatever its case."""
    return _compare(text.lower().count(given["letter"].lower()), given["let_relation"], given["let_frequency"])


def response_language(text: str, given: Arguments) -> bool:
    """The response is in this language (ISO 639-1), as langdetect has it."""
    return language(text) in (given["language"], None)


def number_sentences(text: str, given: Arguments) -> bool:
    """So many sentences."""
    return _compare(count_sentences(text), given["relation"], given["num_sentences"])


def number_paragraphs(text: str, given: Arguments) -> bool:
    """Exactly so many paragraphs, divided by ``***``; none but the first and last may be empty."""
    paragraphs = re.split(r"\s?\*\*\*\s?", text)
    if not all(paragraph.strip() for paragraph in paragraphs[1:-1]):
        return False
    return sum(bool(paragraph.strip()) for paragraph in paragraphs) == int(given["num_paragraphs"])


def number_words(text: str, given: Arguments) -> bool:
    r"""So many words (runs of ``\w``)."""
    return _compare(len(re.findall(r"\w+", text)), given["relation"], given["num_words"])


def nth_paragraph_first_word(text: str, given: Arguments) -> bool:
    """Exactly so many paragraphs, divided by an empty line, and the n-th begins with this word."""
    paragraphs = text.split("\n\n")
    count = sum(bool(paragraph.strip()) for paragraph in paragraphs)
    nth = given["nth_paragraph"]
    if nth > count or not paragraphs[nth - 1].strip():
        return False
    word = paragraphs[nth - 1].split()[0].lstrip("'").lstrip('"')
    first = re.split(r"[.,?!'\"]", word, maxsplit=1)[0].lower()
    return bool(count == given["num_paragraphs"] and first == given["first_word"].lower())


def number_placeholders(text: str, given: Arguments) -> bool:
    """At least so many placeholders in square brackets."""
    return len(re.findall(r"\[.*?\]", text)) >= int(given["num_placeholders"])


def postscript(text: str, given: Arguments) -> bool:
    """A postscript that begins with this marker, anywhere."""
    marker = given["postscript_marker"].strip()
    known = {"P.P.S": r"\s*p\.\s?p\.\s?s.*$", "P.S.": r"\s*p\.\s?s\..*$"}
    return bool(re.search(known.get(marker, rf"\s*{marker.lower()}.*$"), text.lower(), re.MULTILINE))


def number_bullet_lists(text: str, given: Arguments) -> bool:
    """Exactly so many bullet points: lines that begin with ``*`` or ``-``."""
    stars = re.findall(r"^\s*\*[^\*].*$", text, re.MULTILINE)
    dashes = re.findall(r"^\s*-.*$", text, re.MULTILINE)
    return len(stars) + len(dashes) == int(given["num_bullets"])


def constrained_response(text: str, given: Arguments) -> bool:
    """Holds one of the three allowed answers."""
    return any(answer in text for answer in _ANSWERS)


def number_highlighted_sections(text: str, given: Arguments) -> bool:
    """At least so many ``*highlighted*`` or ``**highlighted**`` sections."""
    single = re.findall(r"\*[^\n\*]*\*", text)
    double = re.findall(r"\*\*[^\n\*]*\*\*", text)
    count = sum(bool(section.strip("*").strip()) for section in single)
    count += sum(bool(section.removeprefix("**").removesuffix("**").strip()) for section in double)
    return count >= int(given["num_highlights"])


def multiple_sections(text: str, given: Arguments) -> bool:
    """At least so many sections that begin with this marker and a number."""
    marker = given["section_spliter"].strip()
    return len(re.split(rf"\s?{marker}\s?\d+\s?", text)) - 1 >= int(given["num_sections"])


def json_format(text: str, given: Arguments) -> bool:
    """All of it is JSON, a Markdown fence around it or not."""
    text = text.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def title(text: str, given: Arguments) -> bool:
    """Holds a title in double angular brackets."""
    return any(found.lstrip("<").rstrip(">").strip() for found in re.findall(r"<<[^\n]+>>", text))


def two_responses(text: str, given: Arguments) -> bool:
    """Exactly two different responses, divided by ``******``."""
    parts = [part.strip() for part in text.split("******")]
    if not all(parts[1:-1]):
        return False
    filled = [part for part in parts if part]
    return len(filled) == 2 and filled[0] != filled[1]


def repeat_prompt(text: str, given: Arguments) -> bool:
    """Begins with the request, word for word."""
    return text.strip().lower().startswith(given["prompt_to_repeat"].strip().lower())


def end_checker(text: str, given: Arguments) -> bool:
    """Ends with this phrase, whatever its case."""
    return text.strip().strip('"').lower().endswith(given["end_phrase"].strip().lower())


def capital_word_frequency(text: str, given: Arguments) -> bool:
    """So many words in capital letters; hyphenated words count once."""
    count = sum(word.isupper() for word in words(text))
    return _compare(count, given["capital_relation"], given["capital_frequency"])


def english_capital(text: str, given: Arguments) -> bool:
    """English, without a lower-case letter."""
    return text.isupper() and language(text) in ("en", None)


def english_lowercase(text: str, given: Arguments) -> bool:
    """English, without a capital letter."""
    return text.islower() and language(text) in ("en", None)


def no_comma(text: str, given: Arguments) -> bool:
    """No comma."""
    return "," not in text


def quotation(text: str, given: Arguments) -> bool:
    """All of it in double quotation marks."""
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


CHECKS: dict[str, Callable[[str, Arguments], bool]] = {
    "change_case:capital_word_frequency": capital_word_frequency,
    "change_case:english_capital": english_capital,
    "change_case:english_lowercase": english_lowercase,
    "combination:repeat_prompt": repeat_prompt,
    "combination:two_responses": two_responses,
    "detectable_content:number_placeholders": number_placeholders,
    "detectable_content:postscript": postscript,
    "detectable_format:constrained_response": constrained_response,
    "detectable_format:json_format": json_format,
    "detectable_format:multiple_sections": multiple_sections,
    "detectable_format:number_bullet_lists": number_bullet_lists,
    "detectable_format:number_highlighted_sections": number_highlighted_sections,
    "detectable_format:title": title,
    "keywords:existence": keywords_existence,
    "keywords:forbidden_words": forbidden_words,
    "keywords:frequency": keyword_frequency,
    "keywords:letter_frequency": letter_frequency,
    "language:response_language": response_language,
    "length_constraints:nth_paragraph_first_word": nth_paragraph_first_word,
    "length_constraints:number_paragraphs": number_paragraphs,
    "length_constraints:number_sentences": number_sentences,
    "length_constraints:number_words": number_words,
    "punctuation:no_comma": no_comma,
    "startend:end_checker": end_checker,
    "startend:quotation": quotation,
}
