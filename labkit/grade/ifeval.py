"""IFEval's verifiers (Zhou et al., arXiv 2311.07911): does a response follow demands on its form that a program checks?

The 25 kinds of demand that its 541 prompts make, by their published names. Guaranteed: verdicts follow the published
checkers, oddities included (keywords are patterns and match inside words; a language that cannot be told counts as
followed; bullets are lines that begin with `*` or `-`). Left open: sentences are counted by rules and a list of
abbreviations, in the place of a trained model; on 4,500 public answers 98.7 % of the counts were equal. A demand for so
many `#` or `!`, where the published checker draws a letter by chance, counts that mark. Needs `langdetect`.
"""

import json
import re
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

from labkit.errors import BadRequest, unknown

Check = Callable[..., bool]  # from a response, and what the demand sets
RELATIONS: dict[str, Callable[[int, int], bool]] = {"less than": lambda n, m: n < m, "at least": lambda n, m: n >= m}
OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_POSTSCRIPTS = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
_ENDS = re.compile(r"""(\S*[.?!]['")\]}]*)\s+(\S)""")  # the last word of what may be a sentence, and what follows
_SHORT = re.compile(  # abbreviations, and initials
    r"(mrs?|ms|dr|prof|st|[sj]r|vs|gen|col|lt|sen|rep|gov|capt|inc|ltd|corp?|jan|feb|aug|sept|oct|nov|dec|"
    r"u\.[skn]|u\.s\.a|[ap]\.m|ph\.d|d\.c|n\.y|l\.a|[b-hj-z])\."
)


def followed(response: str, kinds: Sequence[str], settings: Sequence[dict[str, Any]]) -> list[bool]:
    """Whether a response meets each demand, as it is written (*strict*); an empty one meets none."""
    return [_meets(response, kind, given) for kind, given in zip(kinds, settings, strict=True)]


def followed_loosely(response: str, kinds: Sequence[str], settings: Sequence[dict[str, Any]]) -> list[bool]:
    """The same where the first line, the last line, and asterisks may also be left out (*loose*)."""
    lines = response.split("\n")
    cuts = [response, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    texts = [text.replace("*", "") if bare else text for text, bare in product(cuts, (False, True))]
    return [any(_meets(text, *demand) for text in texts) for demand in zip(kinds, settings, strict=True)]


def check(kind: str, given: dict[str, Any]) -> None:
    """BadRequest for a demand of no known kind, or with settings that are not its own."""
    if kind not in KINDS:
        raise unknown("kind of demand", kind, KINDS)
    try:
        KINDS[kind]("Some text.", **given)
    except (TypeError, KeyError, AttributeError, re.error) as error:
        raise BadRequest(f"the demand '{kind}' does not go with the settings {given}: {error}") from None


def sentences(text: str) -> int:
    """The number of sentences.

    >>> sentences("Mr. Smith left at 5 p.m. on foot. Why? Nobody knows.")
    3
    """
    return bool(text.strip()) + sum(_ends_there(*found) for found in _ENDS.findall(text.strip()))


def _ends_there(word: str, after: str) -> bool:
    bare = word.strip("'\"()[]{}*").lower()
    if bare.endswith(".."):
        return after.isupper()
    return not _SHORT.fullmatch(bare)


def _meets(text: str, kind: str, given: dict[str, Any]) -> bool:
    return bool(text.strip()) and bool(KINDS[kind](text, **given))


def _language(text: str) -> str | None:
    """The ISO 639-1 code of a text's language; None where it cannot be told."""
    from langdetect import DetectorFactory, LangDetectException, detect

    DetectorFactory.seed = 0
    try:
        return str(detect(text))
    except LangDetectException:
        return None


def _in_language(text: str, language: str) -> bool:
    return _language(text) in (language, None)


def _found(pattern: str, text: str) -> int:
    return len(re.findall(pattern, text, flags=re.IGNORECASE))


def _highlights(text: str) -> int:
    """Parts between asterisks; those between two at each end count again."""
    single, double = re.findall(r"\*[^\n*]*\*", text), re.findall(r"\*\*[^\n*]*\*\*", text)
    return sum(bool(part.strip("*").strip()) for part in [*single, *double])


def _bullets(text: str) -> int:
    return sum(len(re.findall(mark, text, flags=re.MULTILINE)) for mark in (r"^\s*\*[^*].*$", r"^\s*-.*$"))


def _paragraphs(text: str) -> int | None:
    """Parts between `***`; None where one between two others is empty."""
    parts = re.split(r"\s?\*\*\*\s?", text)
    inner = [part.strip() for part in parts[1:-1]]
    ends = [parts[0], *parts[1:][-1:]]
    return None if not all(inner) else len(inner) + sum(bool(part.strip()) for part in ends)


def _first_word(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Are there so many paragraphs, apart by an empty line, and begins the nth with that word?"""
    parts = text.split("\n\n")
    filled = sum(bool(part.strip()) for part in parts)
    if filled != num_paragraphs or nth_paragraph > filled or not (own := parts[nth_paragraph - 1].split()):
        return False
    word = own[0].lstrip("'").lstrip('"')
    return re.split("[.,?!'\"]", word)[0].lower() == first_word.lower()


def _is_json(text: str) -> bool:
    bare = text.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        bare = bare.removeprefix(fence)
    try:
        json.loads(bare.removesuffix("```").strip())
    except ValueError:
        return False
    return True


def _capital_words(text: str) -> int:
    """Words all in capitals, taken apart as a treebank does: `DON'T` is two."""
    apart = re.sub(r"(?i)(n't|'(?:s|m|d|ll|re|ve))(?!\w)", r" \1", text)
    return sum(word.isupper() for word in re.split(r"""[\s,;:?!()\[\]{}<>"@#$%&]+|--+""", apart))


def _two_responses(text: str) -> bool:
    parts = [part.strip() for part in text.split("******")]
    said = [part for part in parts if part]
    return all(parts[1:-1]) and len(said) == 2 and said[0] != said[1]


def _postscript(text: str, postscript_marker: str) -> bool:
    marker = postscript_marker.strip()
    return re.search(_POSTSCRIPTS.get(marker, marker.lower()), text.lower()) is not None


def _quoted(text: str) -> bool:
    bare = text.strip()
    return len(bare) > 1 and bare[0] == bare[-1] == '"'


# The names of settings are those of the published prompts.
KINDS: dict[str, Check] = {
    "keywords:existence": lambda text, keywords: all(_found(word, text) for word in keywords),
    "keywords:frequency": lambda text, keyword, frequency, relation: RELATIONS[relation](
        _found(keyword.strip(), text), frequency
    ),
    "keywords:forbidden_words": lambda text, forbidden_words: (
        not any(_found(rf"\b{word}\b", text) for word in forbidden_words)
    ),
    "keywords:letter_frequency": lambda text, letter, let_frequency, let_relation: RELATIONS[let_relation](
        text.lower().count(letter.strip().lower()), let_frequency
    ),
    "language:response_language": _in_language,
    "length_constraints:number_sentences": lambda text, num_sentences, relation: RELATIONS[relation](
        sentences(text), num_sentences
    ),
    "length_constraints:number_paragraphs": lambda text, num_paragraphs: _paragraphs(text) == num_paragraphs,
    "length_constraints:number_words": lambda text, num_words, relation: RELATIONS[relation](
        len(re.findall(r"\w+", text)), num_words
    ),
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": lambda text, num_placeholders: (
        len(re.findall(r"\[.*?\]", text)) >= num_placeholders
    ),
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": lambda text, num_bullets: _bullets(text) == num_bullets,
    "detectable_format:constrained_response": lambda text: any(option in text for option in OPTIONS),
    "detectable_format:number_highlighted_sections": lambda text, num_highlights: _highlights(text) >= num_highlights,
    "detectable_format:multiple_sections": lambda text, section_spliter, num_sections: (
        len(re.findall(rf"{section_spliter.strip()}\s?\d+", text)) >= num_sections
    ),
    "detectable_format:json_format": _is_json,
    "detectable_format:title": lambda text: any(
        title.lstrip("<").rstrip(">").strip() for title in re.findall(r"<<[^\n]+>>", text)
    ),
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": lambda text, prompt_to_repeat: (
        text.strip().lower().startswith(prompt_to_repeat.strip().lower())
    ),
    "startend:end_checker": lambda text, end_phrase: (
        text.strip().strip('"').lower().endswith(end_phrase.strip().lower())
    ),
    "startend:quotation": _quoted,
    "change_case:capital_word_frequency": lambda text, capital_frequency, capital_relation: RELATIONS[capital_relation](
        _capital_words(text), capital_frequency
    ),
    "change_case:english_capital": lambda text: text.isupper() and _in_language(text, "en"),
    "change_case:english_lowercase": lambda text: text.islower() and _in_language(text, "en"),
    "punctuation:no_comma": lambda text: "," not in text,
}
