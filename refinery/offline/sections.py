"""What an English draft consists of: its lead and its material, sections for the lead, and what it leaves open."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .text import MASK_BLOCK, sentences
from .wording import is_question, starts_with_verb

# What shows that a draft says something about its answer; the patterns err on the side of asking less.
_STATED_BY = {
    "audience": r"audience|readers?|eli5|like i['’]?m|year[- ]olds?|new to|to \ue000|(?:for|to) (?:[\w'’-]{1,20} ){0,3}"
    r"(?:beginners?|kids?|child|children|students?|experts?|developers?|engineers?|managers?|customers?|clients?|users?"
    r"|team|boss|class|teachers?|adults?|parents?|friends?|colleagues?|people|everyone|myself)\b",
    "output format": r"(?:json|yaml|csv|xml|html|markdown|tables?|bullets?|lists?|numbered|format|paragraphs?|essay"
    r"|(?:e-?)?mails?|letters?|poems?|haikus?|tweets?|scripts?|functions?|class|regex|query|posts?|article|story|slides?"
    r"|headlines?|slogans?|titles?|sentences?|outline|report|yes or no)\b",
    "length": r"(?:words?|sentences?|paragraphs?|pages?|lines?|characters?|short|shorter|brief|briefly|concise|long"
    r"|length|detailed|in detail|at most|no more than|tweets?|haikus?|headlines?|slogans?|titles?|yes or no"
    r"|\d+ (?:[\w-]{1,20} )?(?:bullets?|items?|points?|ideas?|examples?|minutes?|slides?|names?|tips?|days?))\b",
    "examples": r"for instance|e\.g\.|examples?\b|samples?\b|such as|like this",
}
_STATED = {point: re.compile(rf"\b(?:{pattern})", re.I) for point, pattern in _STATED_BY.items()}
_CODE_TASK = re.compile(r"\b(?:code|python|javascript|typescript|java|rust|sql|bash|script|function|bug)\b", re.I)
# What is asked for is the text itself, or what a program reads: a word about choices would be in the way.
_BARE_ANSWER = re.compile(
    r"\b(?:translat|rewrit|rephras|paraphras|shorten|proofread|grammar|nothing else|yes or no|json|yaml|csv|xml"
    r"|only (?:output|return|respond|reply)|(?:output|return|respond|reply|answer)(?: with)? (?:only|just))",
    re.I,
)
_POINTS_SECTION = "# Open points\n\nThe request leaves these open; choose what fits the task:\n\n"
_OWN_POINTS = re.compile(
    rf"\s*(?:{re.escape(_POINTS_SECTION)}(?:- (?:audience|output format|length)\n?){{1,3}}"
    r"|Choose the (?:(?:audience|output format|length)(?:, | and | (?=that))){1,3}that fits? the task\.)\Z"
)

# The lead ends where a draft has a form of its own, shows code without a fence, or behind a colon that may introduce
# someone else's words (a token is left alone in any case).
_LEAD_END = re.compile(
    r"^(?: {0,3}(?:#{1,6} |[-*+•] |\d{1,3}[.)] |>|\||</?[A-Za-z][\w-]{0,40}>[ \t]*$)|[A-Z][A-Z ]{2,40}:?\n"
    r"|(?: {4}|\t)|(?:def|class|import|const|var|function) |from \S{1,60} import |[\w.\[\]]{1,40} ?[+:]?= ?\S"
    r"|[^\n]{0,300}[;{}]$)|(?<=:)(?=\s+[^\s\ue000\ue002])",
    re.MULTILINE,
)

_SECTIONS = ("Role", "Task", "Context", "Constraints", "Output format")
_CONNECTOR = re.compile(r"\A(?:also|and|then|finally|but|plus),? ", re.I)
# Apart from the sentence before it, one that begins so would lose its sense.
_LEANS_BACK = re.compile(
    r"(?:but|however|otherwise|so|because|therefore|instead|which|if not|that|this|these|those|they|he|she)\b", re.I
)
_KINDS = (
    ("Role", r"you(?: are|['’]re) (?:an?|the|my)\b|act as\b"),
    ("Output format", r"(?:the )?(?:output|format|response|answer|result)s?\b|(?:return|respond|reply)\b"),
    ("Output format", r"(?:use|give|as)\b.{0,40}\b(?:json|yaml|csv|xml|html|markdown|tables?|bullets?|lists?)\b"),
    ("Constraints", r"i (?:want|need)(?:ed)? (?:it|this|them|the)\b|i (?:do not|don['’]t) want\b"),
    ("Task", r"i(?: want|['’]d like| would like| need) (?:an?|some|to|you|help|\d)"),
    ("Context", r"(?:i|i['’]m|i['’]ve|my|we|we['’]re|our|there (?:is|are))\b"),
    ("Constraints", r"(?:no|don['’]t|do not|never|always|avoid|only|keep|make (?:it|sure|them)|be|include|exclude)\b"),
    ("Constraints", r"(?:use|try|ensure|limit|mention|max|if|when|unless|it (?:should|must|has to|needs? to))\b"),
)
_KIND_PATTERNS = tuple((section, re.compile(pattern, re.I)) for section, pattern in _KINDS)
_LIMITS = re.compile(r"\b(?:must|should|needs? to|ha(?:s|ve) to|never|at (?:most|least)|no more than|without)\b", re.I)


@dataclass(slots=True)
class _Unit:
    """A sentence with what cannot stand apart from it, and the white space behind it."""

    section: str
    pieces: list[str]
    gap: str


def cut_open_points(text: str) -> tuple[str, str]:
    """Cut off what an earlier run said at the end, so that it is neither said again nor taken for the draft's."""
    start = max(text.rfind("Choose the "), text.rfind(_POINTS_SECTION))
    start = len(text[: max(start, 0)].rstrip())
    return (text[:start], text[start:]) if _OWN_POINTS.match(text, start) else (text, "")


def split_lead(text: str) -> tuple[str, str]:
    """The running prose that a draft begins with, and the rest: its own structure, or material to work on."""
    end = _LEAD_END.search(text)
    lead = text[: end.start()].rstrip() if end else text
    return lead, text[len(lead) :]


def missing_points(masked: str) -> list[str]:
    """What a text does not say about the answer that it wants."""
    return [point for point, stated in _STATED.items() if not stated.search(masked)]


def open_points(lead: str) -> str:
    """What to append to a draft: a sentence to a short one, a section to a longer one.

    Nothing where it could do harm: a program reads the answer, or no request is made.
    """
    parts = [sentence for sentence, _ in sentences(lead)]
    requests = [sentence for sentence in parts if _section(sentence) == "Task" and not is_question(sentence)]
    wanted = ["output format"] if _CODE_TASK.search(lead) else ["audience", "output format", "length"]
    points = [point for point in missing_points(lead) if point in wanted]
    if not requests or not points or _BARE_ANSWER.search(lead):
        return ""
    if len(parts) > 2:
        return "\n\n" + _POINTS_SECTION + "\n".join(f"- {point}" for point in points)
    listed = ", ".join(points[:-1]) + " and " * (len(points) > 1) + points[-1]
    gap = " " if lead.endswith((".", "!", "?")) and "\n" not in lead else "\n\n"
    return f"{gap}Choose the {listed} that {'fit' if len(points) > 1 else 'fits'} the task."


def sort_into_sections(lead: str) -> str:
    """Sort a draft of three sentences or more under headings, or hand it back where that would not help."""
    units = _units(lead)
    used = [section for section in _SECTIONS if any(unit.section == section for unit in units)]
    if len(list(sentences(lead))) < 3 or len(used) < 2 or "Task" not in used:
        return lead
    return "\n\n".join(f"# {section}\n\n{_body(section, units)}" for section in used)


def _units(lead: str) -> list[_Unit]:
    units: list[_Unit] = []
    for sentence, gap in sentences(lead):
        last = units[-1] if units else None
        block = sentence.startswith(MASK_BLOCK)
        if last and (block or ("\n\n" not in last.gap and _LEANS_BACK.match(sentence))):
            last.pieces += [last.gap if block or MASK_BLOCK in last.pieces[-1] else " ", sentence]
            last.gap = gap
        else:
            units.append(_Unit(_section(sentence), [sentence], gap))
        if MASK_BLOCK in sentence and units[-1].section != "Task":
            units[-1].section = "Context"
    return units


def _section(sentence: str) -> str:
    plain = _CONNECTOR.sub("", sentence)
    for section, pattern in _KIND_PATTERNS:
        if pattern.match(plain):
            return section
    if starts_with_verb(plain) or is_question(plain):
        return "Task"
    return "Constraints" if _LIMITS.search(plain) else "Context"


def _body(section: str, units: list[_Unit]) -> str:
    texts = ["".join(unit.pieces) for unit in units if unit.section == section]
    if any(MASK_BLOCK in text for text in texts):
        return "\n\n".join(texts)
    texts = [text.replace("\n", " ") for text in texts]
    return "\n".join(f"- {text}" for text in texts) if section == "Constraints" else " ".join(texts)
