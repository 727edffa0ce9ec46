"""Rules that work on prose alone: is it English, where do its sentences end, how does a rough request read better.

Protected parts never reach these rules: `MASK_INLINE`, `MASK_BLOCK` and `MASK_END` frame a number that stands for one.
Every pattern is linear: a repetition is bounded, or begins only where a lookbehind or a literal lets it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .engines import Change
from .writing_system import main_script

MASK_INLINE, MASK_BLOCK, MASK_END = "\ue000", "\ue002", "\ue001"
MASKS = re.compile(f"[{MASK_INLINE}{MASK_BLOCK}]([0-9]+){MASK_END}")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FUNCTION_WORDS = _words(
    "the and of this that these with you your my our please what how why who should would could can from are it we "
    "they which not have has an is be about for i i'm i've i'd me us to when where does do don't into like give there "
    "hi hey or if must only need want some good more as at by using no also thanks"
)
_TELLING_VERBS = _words(
    "write explain summarize summarise describe tell give list translate suggest help show create generate draft "
    "rewrite proofread review analyze analyse compare outline improve provide recommend brainstorm compose walk"
)
_VERBS = _TELLING_VERBS | _words(
    "ask make fix find build design edit convert extract classify categorize categorise plan develop implement debug "
    "refactor optimize optimise check act answer calculate compute define discuss evaluate identify prepare research "
    "simplify solve teach turn add remove change update choose come think look read take propose rank sort format "
    "paraphrase shorten expand correct document name organize organise estimate predict interpret critique "
    "investigate do break respond reply run set put label tag parse port migrate count rate tailor tweet"
)
_FOREIGN_WORDS = _words(
    "der die das und ist nicht ein eine einen mit für auf den dem ich bitte wie zu von le la les des et une un est "
    "pour dans que je vous il el los las y en por para con una del di che il per non sono como mi o e da em uma um não "
    "het een van voor met ik niet op och att som är det til og på jest nie się na w z ve bir bu için ce du sur"
)
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")

_COLUMNS = re.compile(r"(?<=\S) {3,}(?=\S)")
_SPACES = re.compile(r"(?<=[^\s*+>#-]) {2,}(?=\S)")
_BLANK_LINES = re.compile(r"\n{3,}")

_BREAK = re.compile(r"(?<=[.!?])[ \t]+|(?<=[.!?][\"')\]”])[ \t]+|\n\s*")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:e\.g|i\.e|etc|vs|approx|mr|mrs|ms|dr|prof|st|fig|cf|inc|[a-z])\.$|^\d{1,2}\.$", re.IGNORECASE
)

_GREETING = re.compile(
    r"(?:hey|hi|hello|good (?:morning|afternoon|evening))(?: (?:there|chatgpt|gpt|claude|ai|assistant|all))?"
    r"(?:\s*[,!.]+\s*|\s+(?=(?:please|pls|can|could|would|will|i want|i need|i would|i'd)\b)|$)",
    re.IGNORECASE,
)
_POLITE = re.compile(
    r"(?:please|pls|plz|kindly),? |(?:so|ok|okay),? (?=please |can you |could you |i want you )"
    r"|i(?: want| need| would like|['’]d like) you to (?:please )?|i was wondering if you could (?:please )?",
    re.IGNORECASE,
)
_ASK = re.compile(
    r"(?:can|could|would|will) you (?P<polite>(?:(?:please|kindly|maybe|just) ){0,2})"
    r"(?P<request>(?P<verb>[a-z]{2,20})\b(?P<object> (?:me|us|my|our|this|these|it|the following)\b)?)",
    re.IGNORECASE,
)
_POLITE_END = re.compile(r"(?<!say)(?:,? (?:please|pls|plz)|, (?:thanks|thank you))(?=[.!?]*$)", re.IGNORECASE)
_THANKS = re.compile(
    r"(?:many )?(?:thanks|thank you|thx|cheers)(?: (?:so much|a lot|in advance|very much))?[.!]*", re.IGNORECASE
)
_NO_APOSTROPHE = re.compile(r"\b(?:(?P<verb>do|does|did|is|are|was|could|should|would|have|has)nt|im)\b")
_CHAT_YOU = re.compile(r"(?<=\b(?:can|are) )u\b|(?<=\b(?:could|would) )u\b|(?<=\bdo )u\b")
_SHOUTING = re.compile(r"(?<=\w)[!?]{2,}(?=\s|$)")
_SMALL_I = re.compile(r"(?<![\w.(])(?<!for )(?<!let )(?<!index )(?<!variable )i(?=['’](?:m|ve|d|ll)\b| (?!in\b)[a-z])")
_FIRST_WORD = re.compile(r"[a-z]+(?=[\s,.?!:'’]|$)")
_WRITTEN_SMALL = _words("npm npx pip git kubectl docker curl grep sed awk ssh sudo bash jq vim ls cd")
_LABEL = re.compile(r"[\w /-]{1,30}:(?: |$)")
_QUESTION = re.compile(
    r"(?:what|why|how|who|when|where|which)(?:['’]s| (?:is|are|was|were|do|does|did|can|could|should|would|will|to|many"
    r"|much)\b)|(?:is|are|was|were|can|could|should|would|will|does|did) "
    r"(?:i|you|we|they|he|she|it|there|this|that|the|an?|my|your|these|those)\b|do (?:i|you|we|they|people)\b",
    re.IGNORECASE,
)


_STATED = {
    "audience": re.compile(
        r"\b(?:audience|readers?|readership|layperson|eli5|like (?:i['’]?m|i am) |year[- ]olds?"
        r"|new to|don['’]?t know (?:much|anything)"
        r"|non-?technical"
        r"|(?:for|to) (?:[\w'’-]{1,20} ){0,3}(?:beginners?|novices?|kids?|child|children|students?|experts?|developers?"
        r"|engineers?|programmers?|managers?|executives?|customers?|clients?|users?|team|boss|class|teachers?|adults?"
        r"|parents?|friends?|colleagues?|investors?|landlord|people|everyone|myself|mom|dad))\b",
        re.IGNORECASE,
    ),
    "output format": re.compile(
        r"\b(?:json|yaml|csv|xml|html|markdown|latex|tables?|bullets?|bulleted|lists?|numbered|format|paragraphs?|essay"
        r"|emails?|letters?|poems?|haikus?|tweets?|limericks?|sonnets?|scripts?|functions?|class|regex|query|posts?"
        r"|article|story|slides?|headlines?|slogans?|titles?|sentences?|outline|one-liner|report|readme|yes or no)\b",
        re.IGNORECASE,
    ),
    "length": re.compile(
        r"\b(?:words?|sentences?|paragraphs?|pages?|lines?|characters?|short|shorter|brief|briefly|concise|concisely"
        r"|long|length|detailed|in[- ]depth|in detail|comprehensive|at most|no more than|tweets?|haikus?|limericks?"
        r"|sonnets?|one-liner|headlines?|slogans?|titles?|regex|yes or no|\d+ (?:[\w-]{1,20} )?(?:bullets?|items?"
        r"|points?|ideas?|examples?|minutes?|slides?|names?|tips?|questions?|reasons?|options?|days?|weeks?|rows?))\b",
        re.IGNORECASE,
    ),
    "examples": re.compile(
        r"\b(?:for example|for instance|e\.g\.|examples?\b|samples?\b|such as|like this)|\ue002", re.IGNORECASE
    ),
}
_CODE_TASK = re.compile(
    r"\b(?:code|python|javascript|typescript|java|rust|sql|bash|script|function|regex|bug)\b", re.IGNORECASE
)
_PATTERN_TASK = re.compile(
    r"\b(?:classif|categori[sz]|extract|label|tag |pars[ei]|in the style of|imitat)", re.IGNORECASE
)
# What is asked for is the text itself, or what a program reads: a line about choices would be in the way.
_BARE_ANSWER = re.compile(
    r"\b(?:translat|rewrit|rephras|paraphras|shorten|proofread|grammar|transcrib|nothing else|yes or no"
    r"|no (?:explanation|commentary|preamble)|only "
    r"(?:output|return|respond|reply)|(?:output|return|respond|reply|answer|give)(?: me)?(?: with)? (?:only|just)\b"
    r"|(?:as|in|to|into|return|output|valid|with|format:?) (?:an? |valid |the )?(?:json|yaml|csv|xml)\b)",
    re.IGNORECASE,
)
_HEADING = re.compile(r"^(?:#{1,6} |<[a-z][\w-]{0,40}>[ \t]*$)", re.MULTILINE | re.IGNORECASE)
_STRUCTURE = re.compile(
    r"^(?: {0,3}(?:#{1,6} |[-*+•] |\d{1,3}[.)] |>|\||</?[A-Za-z][\w-]{0,40}>[ \t]*$)|[A-Z][A-Z ]{2,40}:?\n"
    r"|(?:[Uu]ser|[Ss]ystem|[Aa]ssistant|[Cc]ontext|[Tt]ask|[Ii]nput|[Oo]utput|[Rr]ole):)",
    re.MULTILINE,
)
_UNFENCED_CODE = re.compile(
    r"^(?: {4} *\S|\t+\S|(?:def|class|for|if|while|function|public|private)\b[^\n]{0,200}[:{]$|import \w+$"
    r"|from \S{1,60} import |(?:const|let|var) |[\w.\[\]]{1,40} ?(?:=|\+=|:=) ?\S|[^\n]{0,300}[;{}]$)",
    re.MULTILINE,
)
_INTRODUCES_MATERIAL = re.compile(
    r"\b(?:following|below|these|here(?:['’]s| is| are)?|text|e-?mail|message|article|paragraph|sentence|input|document"
    r"|data|review|transcript|poem|essay|error|log|letter|story|content|original|feedback)s?\b",
    re.IGNORECASE,
)
_BLOCK = re.compile(f"({MASK_BLOCK}[0-9]+{MASK_END})")
_SECTIONS = ("Role", "Task", "Context", "Constraints", "Output format")
_CONNECTOR = re.compile(r"(?:also|and|then|finally|but|plus),? ", re.IGNORECASE)
_CONNECTS = re.compile(
    r"(?:but|however|otherwise|so|because|therefore|instead|which|if not|in that case|except)\b", re.IGNORECASE
)
_POINTS_BACK = re.compile(r"(?:that|this|these|those|they|he|she|half of)\b", re.IGNORECASE)
_CONDITION = re.compile(r"(?P<given>given|based on|using|with)\b|(?:if|when|unless)\b", re.IGNORECASE)
_KINDS = (
    ("Role", r"(?:you are|you['’]re)(?! (?:given|provided|going|allowed|asked|to|not|free)\b)|act as|imagine you are"),
    (
        "Output format",
        (
            r"(?:the )?(?:output|format|response|answer|result)s?\b|(?:return|respond|reply)\b|(?:use|give|as)\b"
            r".{0,40}\b(?:json|yaml|csv|xml|html|markdown|tables?|bullets?|bullet points|lists?)\b"
        ),
    ),
    ("Constraints", r"i (?:want|need)(?:ed)? (?:it|this|them|the)\b|i (?:do not|don['’]?t) want\b"),
    ("Task", r"what i (?:want|need) is\b|i(?: want|['’]d like| would like| need) (?:an?|some|to|you|help|\d)"),
    ("Context", r"(?:i|i['’]m|i['’]ve|my|we|we['’]re|our|there (?:is|are))\b"),
    (
        "Constraints",
        (
            r"(?:no|don['’]?t|do not|never|always|avoid|only|keep|make (?:it|sure|them)|be|include|exclude|use|try"
            r"|ensure|(?:\w+ )?tone|maybe|ideally|preferably|stick|limit|mention|remember"
            r"|it (?:should|must|has to|needs? to|shouldn['’]t))\b"
        ),
    ),
)
_KIND_PATTERNS = tuple((section, re.compile(pattern, re.IGNORECASE)) for section, pattern in _KINDS)
_LIMITS = re.compile(
    r"\b(?:must|should|shall|needs? to|ha(?:s|ve) to|never|at most|at least|no more than|without|between \d|under \d"
    r"|maximum|minimum|not too)\b",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Ledger:
    """What was really done: by reason, how often, and the first passage before and after."""

    entries: dict[str, tuple[int, str, str]] = field(default_factory=dict)

    def note(self, reason: str, before: str, after: str) -> str:
        """Take a note when the passages differ, and hand back the later one."""
        if before != after:
            count, *first = self.entries.get(reason, (0, before, after))
            self.entries[reason] = (count + 1, first[0], first[1])
        return after

    def changes(self, restore: Callable[[str], str]) -> list[Change]:
        return [
            show_change(f"{reason} ({count} places)." if count > 1 else f"{reason}.", restore(before), restore(after))
            for reason, (count, before, after) in self.entries.items()
        ]


def show_change(reason: str, before: str, after: str) -> Change:
    """A change with an excerpt of both texts around their first difference, in whole words where they are short."""
    pairs = enumerate(zip(before, after, strict=False))
    same = next((index for index, (old, new) in pairs if old != new), min(len(before), len(after)))
    near = max(0, same - 60)
    start = max(before.rfind("\n", near, same), before.rfind(" ", near, max(near, same - 30)), near - 1) + 1
    return Change(reason, before[start : start + 180], after[start : start + 180])


@dataclass(slots=True)
class _Unit:
    """One sentence, or a code block with the sentence that introduces it."""

    section: str
    text: str
    gap: str
    paragraph: int


def is_english(masked: str) -> bool:
    """Whether a text, and its beginning by itself, reads as English; in doubt it does not."""
    if main_script(masked) != "LATIN":
        return False
    words = [word.lower().replace("’", "'") for word in _WORD.findall(MASKS.sub(" ", masked))]
    return _mostly_english(words[:12]) and _mostly_english(words)


def _mostly_english(words: list[str]) -> bool:
    english = sum(word in _FUNCTION_WORDS or word in _VERBS for word in words)
    foreign = sum(word in _FOREIGN_WORDS or not word.isascii() for word in words)
    return english > foreign and english * 10 >= len(words)


def clean_whitespace(masked: str) -> str:
    """Drop trailing spaces, surplus blank lines and runs of spaces in prose; indentation and columns stay.

    A text that ends in a colon keeps what follows it: a program will append its input there.
    """
    unix = masked.replace("\r\n", "\n")
    text = _BLANK_LINES.sub("\n\n", "\n".join(map(_clean_line, unix.split("\n")))).strip("\n")
    indent = len(text) - len(text.lstrip(" "))
    if indent < 4 and text[indent : indent + 1].isalnum():
        text = text[indent:]
    return text + unix[len(unix.rstrip()) :] if text.endswith(":") else text


def _clean_line(line: str) -> str:
    line = line.rstrip(" \t")
    layout = line.startswith("    ") or any(mark in line for mark in "\t|`")
    if layout or len(_COLUMNS.findall(line)) > 1:
        return line
    return _SPACES.sub(" ", line)


def sentences(prose: str) -> Iterator[tuple[str, str]]:
    """Each sentence with the white space behind it: joined, they are the text again."""
    start = line = 0
    for match in _BREAK.finditer(prose):
        if match[0].startswith("\n"):
            ends = not _wraps(prose, line, match)
            line = match.end()
        else:
            ends = _ends_sentence(prose, start, match)
        if ends:
            yield prose[start : match.start()], match[0]
            start = match.end()
    if start < len(prose):
        yield prose[start:], ""


def _wraps(prose: str, line: int, match: re.Match[str]) -> bool:
    long = match.start() - line >= 60 and prose[match.start() - 1] not in ".!?:"
    return match[0].count("\n") == 1 and long and prose[match.end() : match.end() + 1].islower()


def _ends_sentence(prose: str, start: int, match: re.Match[str]) -> bool:
    before, following = prose[max(start, match.start() - 12) : match.start()], prose[match.end() : match.end() + 1]
    if _ABBREVIATION.search(before):
        return before.endswith("etc.") and following.isupper()
    return not (before.endswith("...") and following.islower())


def is_question(sentence: str) -> bool:
    return sentence.endswith("?") or _QUESTION.match(sentence) is not None


def starts_with_verb(sentence: str) -> bool:
    first = _WORD.match(sentence)
    return first is not None and first[0].lower() in _VERBS


def polish(lead: str, ledger: Ledger, closed: bool) -> str:
    """Make each request of an English text direct and each sentence whole; `closed` says that nothing follows it."""
    parts = list(sentences(lead))
    result: list[str] = []
    for index, (sentence, gap) in enumerate(parts):
        last = index == len(parts) - 1
        if _is_courtesy(sentence, first=not any(result) and not last, last=last and any(result)):
            ledger.note(_DIRECT, sentence, "")
            result = ["".join(result).rstrip()]
        elif index and "\n" in parts[index - 1][1] and not _reads_as_sentence(sentence):
            result.append(sentence + gap)
        else:
            before_block = not last and parts[index + 1][0].startswith(MASK_BLOCK)
            result.append(_polish_sentence(sentence, ledger, (closed or not last) and not before_block) + gap)
    return "".join(result)


_DIRECT = "Polite filler was removed, so that the request is direct"


def _is_courtesy(sentence: str, *, first: bool, last: bool) -> bool:
    pattern = _GREETING if first else _THANKS
    return (first or last) and pattern.fullmatch(sentence) is not None


def _reads_as_sentence(line: str) -> bool:
    words = {word.lower() for word in _WORD.findall(line)}
    return len(words) > 1 and bool(words & (_FUNCTION_WORDS | _VERBS)) and not _LABEL.match(line)


def _polish_sentence(sentence: str, ledger: Ledger, close: bool) -> str:
    spelt = _NO_APOSTROPHE.sub(_with_apostrophe, _CHAT_YOU.sub("you", sentence))
    spelt = ledger.note("Chat spelling was written out", sentence, spelt)
    calm = ledger.note("Repeated punctuation was reduced to one mark", spelt, _SHOUTING.sub(_one_mark, spelt))
    direct = ledger.note(_DIRECT, calm, _make_direct(calm))
    tidy = _SMALL_I.sub("I", direct)
    first = _FIRST_WORD.match(tidy)
    if first and first[0] not in _WRITTEN_SMALL:
        tidy = tidy[0].upper() + tidy[1:]
    if close and (tidy[-1:].isalnum() or tidy.endswith(")")):
        tidy += "?" if _QUESTION.match(tidy) else "."
    return ledger.note("A sentence was given its capital letter or its final mark", direct, tidy)


def _with_apostrophe(word: re.Match[str]) -> str:
    return "I'm" if word[0] == "im" else f"{word['verb']}n't"


def _one_mark(marks: re.Match[str]) -> str:
    return "?" if "?" in marks[0] else "!"


def _make_direct(sentence: str) -> str:
    rest = sentence
    for _ in range(4):
        rest = _strip_opening(rest)
    rest = rest[:-20] + _POLITE_END.sub("", rest[-20:])
    return sentence if rest == sentence else rest[:1].upper() + rest[1:]


def _strip_opening(sentence: str) -> str:
    for pattern in (_GREETING, _POLITE):
        match = pattern.match(sentence)
        if match and match.end() < len(sentence.rstrip(".!?")):
            return sentence[match.end() :]
    ask = _ASK.match(sentence)
    if ask and _is_request(ask):
        rest = sentence[ask.start("request") :]
        return rest[:-1] + "." if rest.endswith("?") else rest
    return sentence


def _is_request(ask: re.Match[str]) -> bool:
    verb = ask["verb"].lower()
    return bool(ask["polite"]) or verb in _TELLING_VERBS or (verb in _VERBS and ask["object"] is not None)


def split_lead(text: str) -> tuple[str, str]:
    """The running prose that a draft begins with, and the rest: its own structure, or material to work on."""
    ends = [match.start() for match in (_STRUCTURE.search(text), _UNFENCED_CODE.search(text)) if match]
    ends += [colon.end() for colon in re.finditer(r":(?=\s)", text) if _precedes_material(text, colon)][:1]
    if not ends:
        return text, ""
    lead = text[: min(ends)].rstrip()
    return lead, text[len(lead) :]


def _precedes_material(text: str, colon: re.Match[str]) -> bool:
    intro = re.split(r"[.!?\n]", text[max(0, colon.start() - 80) : colon.start()])[-1]
    following = text[colon.end() : colon.end() + 200].lstrip()
    if not following or following.startswith(MASK_BLOCK) or _STRUCTURE.match(following):
        return False
    token = MASKS.match(following)
    if token and following[token.end() : token.end() + 1] in ("", " ", "\n", "."):
        return False
    return text[colon.end()] == "\n" or _INTRODUCES_MATERIAL.search(intro) is not None


def missing_points(masked: str) -> list[str]:
    return [point for point, stated in _STATED.items() if not stated.search(masked)]


def points_to_raise(text: str, rest: str) -> list[str]:
    """What an English prompt should leave to its reader openly; nothing where a line about it would do harm.

    That is so when input follows the prompt, when its answer goes to a program, and when it is finished.
    """
    missing = missing_points(text)
    headings = _HEADING.search(text) is not None
    material = rest and (not _STRUCTURE.match(rest.lstrip("\n")) or _UNFENCED_CODE.search(rest))
    last_line = text.rstrip().rpartition("\n")[2]
    if material or last_line.endswith(":") or _HEADING.match(last_line) or _BARE_ANSWER.search(text):
        return []
    if headings and "output format" not in missing:
        return []
    wanted = {"output format"} if _CODE_TASK.search(text) else {"audience", "output format", "length"}
    if _PATTERN_TASK.search(text):
        wanted.add("examples")
    names = {"examples": "answer pattern"}
    return [names.get(point, point) for point in missing if point in wanted]


def sort_into_sections(lead: str) -> str:
    """Sort a draft of three sentences or more under headings, or hand it back where that would not help."""
    units = _units(lead)
    used = [section for section in _SECTIONS if any(unit.section == section for unit in units)]
    input_follows = lead.rstrip().endswith(":")
    if input_follows or sum(1 for _ in sentences(lead)) < 3 or len(used) < 2 or "Task" not in used:
        return lead
    return "\n\n".join(f"# {section}\n\n{_body(section, units)}" for section in used)


def _units(lead: str) -> list[_Unit]:
    units: list[_Unit] = []
    paragraph = 0
    for piece in _BLOCK.split(lead):
        if piece.startswith(MASK_BLOCK):
            _attach_block(piece, units, paragraph)
            paragraph += 1
            continue
        for sentence, gap in sentences(piece.lstrip()):
            section = _section(sentence)
            if units and units[-1].gap and _belongs_to(units[-1], sentence, section):
                units[-1].text += " " + sentence
                units[-1].gap = gap
            else:
                units.append(_Unit(section, sentence, gap, paragraph))
            paragraph += gap.count("\n") > 1
    return units


def _belongs_to(unit: _Unit, sentence: str, section: str) -> bool:
    """Whether a sentence would lose its sense apart from the one before it."""
    if unit.section == "Role" or unit.gap.count("\n") > 1:
        return False
    back = _POINTS_BACK.match(sentence) and section == "Context" and unit.section != "Task"
    return _CONNECTS.match(sentence) is not None or bool(back)


def _attach_block(block: str, units: list[_Unit], paragraph: int) -> None:
    """Keep a block with the sentence that introduces it; a request right before it does not, unless by a colon."""
    intro = units[-1] if units else None
    if intro and intro.section != "Context" and not intro.text.endswith(":"):
        intro = next((unit for unit in reversed(units) if unit.section == "Context"), None)
    if intro is None or _BLOCK.search(intro.text):
        units.append(_Unit("Context", block, "", paragraph))
    else:
        gap = intro.gap if intro is units[-1] else "\n\n"
        intro.section, intro.text = "Context", intro.text + gap + block


def _section(sentence: str) -> str:
    plain = _CONNECTOR.sub("", sentence, count=1)
    for section, pattern in _KIND_PATTERNS:
        if pattern.match(plain):
            return section
    condition = _CONDITION.match(plain)
    if condition and starts_with_verb(plain.partition(", ")[2]):
        return "Task" if condition["given"] else "Constraints"
    if starts_with_verb(plain) or is_question(plain):
        return "Task"
    return "Constraints" if _LIMITS.search(plain) else "Context"


def _body(section: str, units: list[_Unit]) -> str:
    chosen = [unit for unit in units if unit.section == section]
    flat = [unit.text if _BLOCK.search(unit.text) else unit.text.replace("\n", " ") for unit in chosen]
    if section == "Constraints":
        return "\n".join(f"- {text}" for text in flat)
    text = flat[0]
    for before, unit, piece in zip(chosen, chosen[1:], flat[1:], strict=False):
        text += (" " if before.paragraph == unit.paragraph else "\n\n") + piece
    return text
