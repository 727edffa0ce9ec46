"""The built-in engine: what it keeps, what it improves, and what it says about itself."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refinery.deadline import Deadline
from refinery.engines import NO_USAGE, Engine, Rewrite, Task
from refinery.integrity import compare, take_inventory
from refinery.offline import OfflineEngine

PROMPTS = Path(__file__).parents[2] / "shared" / "data" / "prompts.jsonl"

ITINERARY = (
    "You are an experienced travel agent. I'm planning a trip to Japan with my wife and two kids. We hate crowds. "
    "Please make a 10 day itinerary. Don't include Tokyo. Give me the result as a table."
)
CRASH = """\
I have this function and it crashes on an empty list. Can you tell me why and fix it?

```python
def f(x):
    return x[0]
```

I'd prefer not to use try/except. We run Python 3.9."""
MOVE = """\
Our team moves to GitHub Actions. The CTO wants it by March. What should we watch out for? Write me a plan.
It should cover risks. See https://docs.github.com/actions. Thanks in advance"""
INTERVIEW = """\
Hi! I want you to act as an interviewer. I will be the candidate. I want you to only reply as the interviewer.
Ask me the questions one by one. My first sentence is "Hi"."""
ROUGH = (
    "hey can you write me a blog post about cats!!!",
    "please summarize {{article}} for my boss",
    "i need a python script that renames files\nit should read the names from a csv\nno pandas please\nthanks!",
    "classify each support ticket as bug, feature or question. Tickets: {tickets}",
    "write a function:\n- takes a list\n- returns the median\n",
    "explain quantum computing like i'm five pls",
    ITINERARY,
    CRASH,
    MOVE,
    INTERVIEW,
)

fragments = st.sampled_from(
    [
        *("{{ name }}", "{x}", "${HOME}", "%(count)s", "%s", "{0}", "{", "}", "{{", "}}", "$", "%", "%%"),
        *("https://a.b.", "http://example.org/x?y={z}", "https://", "HTTP://x.y/(a)", "www"),
        *("```\ncode {y}\n```", "```py\n", "```", "~~~\n", "~~~", "`x  y`", "``", "> ```\nq\n```"),
        *("please ", "can you write ", "Hey, ", "Thanks.", "I want you to ", "what is this", "the following text:"),
        *("Write a poem", "You are a pilot", "I have a cat", "Do not lie", "Return a table", "i am", "e.g. ", "{a}!!"),
        *(".", ". ", "!!!", "?", ":", ": ", ",", " ", "   ", "\t", "\n", "\n\n\n\n", "\r\n", "\r", "\u2028", "\x0b"),
        *('"', "“", "”", "# Head\n", "- item\n", "| a | b |\n", "    code\n", "# Open points\n\n", "Choose the "),
        *(
            "\ue000",
            "\ue0000\ue001",
            "\ue001",
            "\ue0021\ue001",
            "0",
            "1",
            "é",
            "Привет",
            "漢字",
            "\u202e",
            "\U000f0000",
        ),
    ]
)
composed = st.lists(st.one_of(fragments, st.text(max_size=4)), max_size=30).map("".join)
worded = st.lists(fragments, min_size=3, max_size=30).map(lambda parts: "Please write the " + " ".join(parts))


def refine(draft: str, instructions: str | None = None) -> Rewrite:
    must_keep = take_inventory(draft).must_keep()
    return OfflineEngine().rewrite(Task(draft, instructions, "", must_keep, "any"), Deadline.after(5))


def seconds(draft: str) -> float:
    # Processor time of this process: what else the machine does at the moment is no rule's fault.
    start = time.process_time()
    refine(draft)
    return time.process_time() - start


def assert_kept(draft: str, refined: str) -> None:
    result = compare(draft, refined)
    assert result.ok
    assert not result.script_changed
    assert Counter(take_inventory(draft).must_keep()) == Counter(take_inventory(refined).must_keep())


def test_is_an_engine() -> None:
    """It fits the protocol, names itself and its model, and costs nothing."""
    engine: Engine = OfflineEngine()
    assert (engine.name, engine.model_for("gpt-4.1")) == ("offline", "rules")
    result = refine("Write a poem.")
    assert (result.model, result.usage, result.upstream_ms) == ("rules", NO_USAGE, 0)


@given(st.one_of(st.text(), composed, worded))
@settings(max_examples=500, deadline=None)
def test_keeps_every_protected_part_of_any_text(draft: str) -> None:
    """Whatever the draft is, its placeholders, code blocks and URLs stand in the result as often as before."""
    assert_kept(draft, refine(draft).refined_prompt)


@given(st.one_of(st.text(), composed, worded))
@settings(max_examples=300, deadline=None)
def test_claims_no_change_that_was_not_made(draft: str) -> None:
    """Changes are listed exactly when the text differs, each shows a difference in short, and none is claimed twice."""
    result = refine(draft)
    assert bool(result.changes) == (result.refined_prompt != draft)
    assert any("nothing to improve" in said for said in result.assumptions) == (not result.changes)
    assert len({change.reason for change in result.changes}) == len(result.changes)
    for change in result.changes:
        assert change.reason
        assert change.before != change.after
        assert max(len(change.before), len(change.after)) <= 200


@pytest.mark.parametrize("word", ["the cat ", "0"])
def test_a_late_change_shows_in_its_excerpt(word: str) -> None:
    """An excerpt is taken where the texts differ, also at the end of a sentence much longer than an excerpt."""
    changes = refine("Write about the " + word * 300 + "end").changes
    assert len(changes) == 2
    assert all(change.before != change.after for change in changes)


@given(composed)
@settings(max_examples=300, deadline=None)
def test_an_unclosed_fence_stays_last(draft: str) -> None:
    """A fence that nobody closed reaches to the end, so nothing may follow it."""
    block = "```py\nprint('{x}')"
    whole = "Please write the docs for this code. It is old. I need it by noon.\n\n" + block
    assert refine(whole).refined_prompt.endswith("\n" + block)
    blocks = take_inventory(draft + "\n" + block).code_blocks
    if blocks and (draft + "\n" + block).endswith(blocks[-1]):
        assert refine(draft + "\n" + block).refined_prompt.endswith(blocks[-1])


@pytest.mark.parametrize("draft", ROUGH)
def test_real_rough_prompts_keep_their_parts_and_get_better(draft: str) -> None:
    """A real rough prompt keeps what is protected, is changed, and is not changed again by a second pass."""
    once = refine(draft)
    assert_kept(draft, once.refined_prompt)
    assert once.changes
    assert refine(once.refined_prompt).refined_prompt == once.refined_prompt


@given(worded)
@settings(max_examples=300, deadline=None)
def test_a_second_pass_piles_nothing_up(draft: str) -> None:
    """Refining a result again adds no second list of open points."""
    once = refine(draft).refined_prompt
    twice = refine(once).refined_prompt
    for mark in ("# Open points", "Choose the "):
        assert twice.count(mark) <= max(1, once.count(mark))


def test_a_one_liner_is_not_bloated() -> None:
    """A one-line request stays one line, made direct, with a single sentence about what is open."""
    assert refine("hey can you write me a blog post about cats!!!").refined_prompt == (
        "Write me a blog post about cats! Choose the audience and length that fit the task."
    )


@pytest.mark.parametrize(
    ("draft", "refined"),
    [
        ("what is the capital of france", "What is the capital of france?"),
        ("Can you eat raw potatoes?", "Can you eat raw potatoes?"),
        ("why is the sky blue???", "Why is the sky blue?"),
        ("I have a cat. why does it sneeze", "I have a cat. Why does it sneeze?"),
    ],
)
def test_a_question_stays_a_question(draft: str, refined: str) -> None:
    """A question is neither answered nor turned into a statement, and nothing is appended to it."""
    assert refine(draft).refined_prompt == refined


@pytest.mark.parametrize(
    ("draft", "refined"),
    [
        ("could you please translate {{text}} into French", "Translate {{text}} into French."),
        ("Hi there! I'd like you to proofread my essay.", "Proofread my essay."),
        ("no grammar lessons please", "No grammar lessons."),
        ("Hello world program in C, code only, nothing else", "Hello world program in C, code only, nothing else."),
        ("npm install prints what, nothing else?", "npm install prints what, nothing else?"),
    ],
)
def test_requests_become_direct(draft: str, refined: str) -> None:
    """Politeness in front of a request and behind it goes, and words that only look like it stay."""
    assert refine(draft).refined_prompt == refined


@pytest.mark.parametrize(
    ("draft", "refined"),
    [
        (
            "hey can you please write a reply to {{customer_name}} about the order {{order.id}}?? they waited 3 weeks",
            "Write a reply to {{customer_name}} about the order {{order.id}}. They waited 3 weeks.",
        ),
        ("can you please describe https://a.b/c?!?", "Describe https://a.b/c."),
        ("could you list the bugs in `f(x)`???", "List the bugs in `f(x)`."),
        ('please explain the word "cat" (the animal)??', 'Explain the word "cat" (the animal).'),
        ("can you please eat less?!", "Eat less."),
        ("please explain {{topic}}!!", "Explain {{topic}}!"),
    ],
)
def test_a_request_loses_its_question_marks(draft: str, refined: str) -> None:
    """What was a question only for politeness ends in a full stop, also behind a placeholder, a URL or a quotation."""
    assert refine(draft).refined_prompt.partition(" Choose ")[0] == refined


@pytest.mark.parametrize(
    "draft",
    [
        "Übersetze den folgenden Text ins Englische. Bitte höflich.   \n\n\n\nHallo {{name}}!!!",
        "Écris un poème sur la mer.  Il doit être court. Je le veux pour demain.",
        "Escribe un correo para mi jefe.  Debe ser corto. No uses palabras raras.",
        "Напиши стихотворение про море.  Оно должно быть коротким. Без рифмы.",
        "Skriv en mail til min chef  om mødet. Den skal være kort. Tak for hjælpen.",
        "Schrijf een gedicht over de zee.  Het moet kort zijn. Is dat goed?",
        "Escreva um email para o meu chefe.  Deve ser curto. Não use palavras raras.",
        "Scrivi una poesia sul mare.  Deve essere breve. Per favore.",
        "请写一首关于大海的诗。  要短。",
    ],
)
def test_other_languages_only_lose_white_space(draft: str) -> None:
    """A draft that is not English keeps every word, gets no English one, and the assumptions say why."""
    result = refine(draft)
    assert result.refined_prompt.split() == draft.split()
    assert any("only know English" in said for said in result.assumptions)
    assert not any("Audience" in said for said in result.assumptions)


def test_a_longer_draft_is_sorted_into_sections() -> None:
    """Sentences go whole under headings in a fixed order, and no section is empty."""
    assert refine(ITINERARY).refined_prompt == (
        "# Role\n\nYou are an experienced travel agent.\n\n"
        "# Task\n\nMake a 10 day itinerary.\n\n"
        "# Context\n\nI'm planning a trip to Japan with my wife and two kids. We hate crowds.\n\n"
        "# Constraints\n\n- Don't include Tokyo.\n\n"
        "# Output format\n\nGive me the result as a table.\n\n"
        "# Open points\n\nThe request leaves these open; choose what fits the task:\n\n- audience"
    )


def test_a_code_block_stays_with_its_sentence() -> None:
    """A code block and the sentence that introduces it move together into the context."""
    block = "```python\ndef f(x):\n    return x[0]\n```"
    draft = f"Fix my code. It must stay small. Here is the function:\n{block}\nWe run Python 3.9."
    refined = refine(draft).refined_prompt
    assert f"# Context\n\nHere is the function:\n{block}" in refined
    assert "# Task\n\nFix my code." in refined


def test_a_structured_draft_keeps_its_structure() -> None:
    """A finished prompt with headings and a stated output is left as it is."""
    draft = "# Task\n\nplease sort the names.\n\n# Output\n\n- Only output a Markdown list.\n\n# INPUT:\n\nINPUT:\n"
    result = refine(draft)
    assert result.refined_prompt == draft
    assert result.changes == ()


def test_material_to_work_on_is_not_edited() -> None:
    """What follows a colon as material belongs to someone else: its wording stays, and nothing is appended to it."""
    material = "Hi John, can you please send me the invoice!!! thanks. i need it. Do it now"
    result = refine(f"please shorten the following email: {material}")
    assert result.refined_prompt == f"Shorten the following email: {material}"


@pytest.mark.parametrize(
    ("draft", "refined"),
    [
        ("please summarize the text:\n", "Summarize the text:\n"),
        (
            "You are an editor. Summarize the text below. Be brief. please be kind. Text:\n\n",
            "You are an editor. Summarize the text below. Be brief. Be kind. Text:\n\n",
        ),
    ],
)
def test_input_can_still_be_appended(draft: str, refined: str) -> None:
    """A prompt that ends in a colon ends in it still, white space included: a program appends its input there."""
    assert refine(draft).refined_prompt == refined


def test_an_answer_for_a_program_gets_no_talk() -> None:
    """Where the answer is parsed, nothing is said about choices; the assumptions still tell."""
    result = refine("Extract every name from {{text}}. Return valid JSON.")
    assert result.refined_prompt == "Extract every name from {{text}}. Return valid JSON."
    assert any(said.startswith("Audience") for said in result.assumptions)


def test_layout_is_not_prose() -> None:
    """Indentation, tables, aligned columns and inline code keep their spaces."""
    draft = (
        "Explain the data as a list for kids, in short:\n\n| a   | b |\n\n    x =   1\nname     age     city\n`a  b`"
    )
    assert refine(draft).refined_prompt.endswith(draft.partition(":")[2])


def test_instructions_that_were_not_followed_are_named() -> None:
    """Rules cannot follow instructions, and the answer says so exactly when there are any."""
    assert any("instructions were not applied" in said for said in refine("Write a poem.", "Use rhymes").assumptions)
    assert not any("instructions" in said for said in refine("Write a poem.").assumptions)


@pytest.mark.parametrize("draft", [*ROUGH, "", "Привет", "{x}"])
def test_says_that_no_model_was_at_work(draft: str) -> None:
    """Every answer says once that it was made by rules."""
    assert sum("not by a language model" in said for said in refine(draft).assumptions) == 1


def test_what_is_stated_is_not_asked_for() -> None:
    """Only what the draft leaves out is listed as missing."""
    said = " ".join(refine("Write a 200 word essay for beginners, for example on tides.").assumptions)
    assert not any(point in said for point in ("Audience", "Output format", "Length", "Examples"))


@pytest.mark.parametrize(
    "unit",
    [
        "{",
        " ",
        "a. ",
        "the a. ",
        "!",
        "! ",
        "?!",
        "\n",
        " \n",
        ": ",
        "text: ",
        '"',
        '"a',
        "`",
        "```\n",
        "https://a.b. ",
        "please ",
        "the ",
        "Write it now. ",
        "{{x}} ",
        "\ue000",
        "- a\n",
        "[",
        "a" * 50,
        "for a ",
        "so it is. ",
        "hey please ",
        "Choose the ",
        "\t",
        "\x0b",
        "\r\n",
    ],
)
def test_time_is_linear(unit: str) -> None:
    """A text eight times as long takes far less than the 64 times that a quadratic rule would take."""
    prose = "Please write the docs. "
    short = min(seconds(prose + unit * (12_500 // len(unit))) for _ in range(3))
    long = min(seconds(prose + unit * (100_000 // len(unit))) for _ in range(2))
    assert long < max(1.0, 24 * short)
    assert long < 5


def test_forty_real_prompts_keep_their_parts() -> None:
    """Real, finished prompts lose nothing and get no headings that are not theirs."""
    if not PROMPTS.exists():
        pytest.skip(f"{PROMPTS} is not here")
    drafts = [json.loads(line)["prompt"] for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    for draft in drafts:
        refined = refine(draft).refined_prompt
        assert_kept(draft, refined)
        assert not {"# Role", "# Context", "# Constraints"} & (set(refined.splitlines()) - set(draft.splitlines()))
    assert len(drafts) == 40
