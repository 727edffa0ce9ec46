"""How an English request is worded: direct, calm, and in whole sentences."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from .text import FUNCTION_WORDS, MASK_BLOCK, MASK_END, TELLING_VERBS, VERBS, sentences, word_set, words

_NO_APOSTROPHE = re.compile(r"\b(do|does|did|is|are|was|could|should|would|have|has)nt\b", re.I)
_REPEATED = re.compile(rf"(?<=[\w){MASK_END}])[!?]{{2,}}(?=\s|$)")
_GREETING = r"(?:hey|hi|hello|good (?:morning|afternoon|evening))(?: there)?"
_GREETS = re.compile(rf"{_GREETING}[,!.]*", re.I)
_THANKS = re.compile(r"(?:many )?(?:thanks|thank you|thx|cheers)(?: (?:so much|a lot|in advance))?[.!]*", re.I)
# "Can you write …" and "can you fix my …" are requests; "can you eat raw potatoes?" wants an answer.
_POLITE_OPENING = re.compile(
    rf"(?:{_GREETING}(?:[,!.]+ ?| (?=(?:please|pls|can|could|would|will|i want|i need|i would|i['’]d)\b))"
    r"|(?:please|pls|plz|kindly),? |i(?: want| need| would like|['’]d like) you to "
    r"|(?:can|could|would|will) (?:you|u) (?:please |pls |kindly "
    rf"|(?=(?:{'|'.join(TELLING_VERBS)})\b|(?:{'|'.join(VERBS)}) (?:me|us|my|our|this|these|it|the following)\b))"
    r"){1,4}(?=[\w\ue000])",
    re.I,
)
_POLITE_END = re.compile(r"(?<!say)(?:,? (?:please|pls|plz)|, (?:thanks|thank you))(?=[.!?]*$)", re.I)
_QUESTION = re.compile(
    r"(?:what|why|how|who|when|where|which)(?:['’]s| (?:is|are|was|do|does|did|can|could|should|would|will|to|many)\b)"
    r"|(?:is|are|was|were|can|could|should|would|will|do|does|did) "
    r"(?:i|you|we|they|he|she|it|people|there|this|that|the|an?|my|your)\b",
    re.I,
)
# Only these get a capital: "npm install" and "e.g." begin with a small letter for a reason.
_PLAIN_WORDS = (
    FUNCTION_WORDS
    | VERBS
    | word_set("a also always an as avoid but he in include just keep max maybe never no she so then use what's")
)
_SMALL_WORD = re.compile(r"[a-z]+(?=[\s,'’]|$)")


def is_question(sentence: str) -> bool:
    """Whether a sentence asks something, also one without its question mark."""
    return sentence.endswith("?") or _QUESTION.match(sentence) is not None


def starts_with_verb(sentence: str) -> bool:
    """Whether a sentence begins as a request does."""
    return not VERBS.isdisjoint(words(sentence[:30])[:1])


def polish(lead: str, closed: bool) -> Iterator[tuple[str, str]]:
    """The lead after each rule, with what a change by it is called; `closed` says that nothing follows the lead."""
    lead = _NO_APOSTROPHE.sub(r"\1n't", lead)
    yield lead, "Missing apostrophes were put in."
    lead = _REPEATED.sub(lambda marks: "?" if "?" in marks[0] else "!", lead)
    yield lead, "Repeated punctuation was reduced to one mark."
    lead = _edit(_without_courtesies(list(sentences(lead))), _direct)
    yield lead, "Polite filler was removed, so that the request is direct."
    parts = list(sentences(lead))
    following = [sentence for sentence, _ in parts[1:]] + [""] * closed
    # What introduces a block, a list or material may be half a sentence: it gets no mark.
    whole = {part for (part, _), after in zip(parts, following, strict=False) if not after.startswith(MASK_BLOCK)}
    lead = _edit(parts, lambda sentence: _complete(sentence, close=sentence in whole))
    yield lead, "Sentences were given their capital letter and their final mark."


def _without_courtesies(parts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    if len(parts) > 1 and _GREETS.fullmatch(parts[0][0]):
        parts = parts[1:]
    if len(parts) > 1 and _THANKS.fullmatch(parts[-1][0]):
        parts = [*parts[:-2], (parts[-2][0], "")]
    return parts


def _edit(parts: list[tuple[str, str]], rule: Callable[[str], str]) -> str:
    """Apply a rule to each sentence; a line that may be a title, a name or a verse stays as it is."""
    result, gap_before = [], ""
    for sentence, gap in parts:
        found = words(sentence)
        is_prose = "\n" not in gap_before or (len(found) > 1 and not _PLAIN_WORDS.isdisjoint(found))
        result.append((rule(sentence) if is_prose else sentence) + gap)
        gap_before = gap
    return "".join(result)


def _direct(sentence: str) -> str:
    opening = _POLITE_OPENING.match(sentence)
    rest = sentence[opening.end() :] if opening else sentence
    rest = rest[:-20] + _POLITE_END.sub("", rest[-20:])
    body = rest.rstrip(".!?")
    if rest == sentence or not body:
        return sentence
    asked = opening is not None and not {"you", "u"}.isdisjoint(words(opening[0]))
    if "?" in rest[len(body) :] and (asked or starts_with_verb(rest)) and not _QUESTION.match(rest):
        rest = body + "."
    return rest[0].upper() + rest[1:] if asked or sentence[0].isupper() else rest


def _complete(sentence: str, close: bool) -> str:
    if _SMALL_WORD.match(sentence) and words(sentence[:30])[0] in _PLAIN_WORDS:
        sentence = sentence[0].upper() + sentence[1:]
    if close and (sentence[-1:].isalnum() or sentence.endswith(")")):
        sentence += "?" if _QUESTION.match(sentence) else "."
    return sentence
