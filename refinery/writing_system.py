"""Which writing system a text is in, to notice a language that was switched unasked."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import lru_cache
from itertools import islice

_ASKS_FOR_LANGUAGE = re.compile(
    r"translat|language|übersetz|sprache|tradu|idioma|langue|lingua|перев|язык|翻|語|语|번역|언어|ترجم|لغة"
    r"|\b(?:in|into|to|auf|en) (?:arabic|bengali|chinese|czech|dutch|english|french|german|greek|hebrew|hindi|"
    r"italian|japanese|korean|mandarin|persian|polish|portuguese|russian|spanish|thai|turkish|ukrainian|urdu|"
    r"vietnamese|deutsch|englisch|español|français|inglés)\b",
    re.IGNORECASE,
)
_SCRIPT_SAMPLE = 5_000


def script_changed(draft: str, refined: str, instructions: str | None) -> bool:
    """Whether the main script of two texts differs, and the instructions do not speak of another language."""
    if instructions and _ASKS_FOR_LANGUAGE.search(instructions):
        return False
    before, after = main_script(draft), main_script(refined)
    return before is not None and after is not None and before != after


def main_script(prose: str) -> str | None:
    """The writing system that most letters of a text belong to (Unicode's name for it), or `None` without letters.

    Japanese mixes three: kana decide, since no other language uses them.
    """
    if prose.isascii():
        return "LATIN" if any(map(str.isalpha, prose)) else None
    scripts: Counter[str] = Counter()
    for letter, count in Counter(islice(filter(str.isalpha, prose), _SCRIPT_SAMPLE)).items():
        scripts[_script(letter)] += count
    if not scripts:
        return None
    kana = scripts.pop("HIRAGANA", 0) + scripts.pop("KATAKANA", 0)
    if kana * 10 > scripts["CJK"] + kana:
        scripts["KANA"] = kana + scripts.pop("CJK", 0)
    return scripts.most_common(1)[0][0]


@lru_cache(maxsize=8192)
def _script(letter: str) -> str:
    return unicodedata.name(letter, "UNKNOWN").split()[0]
