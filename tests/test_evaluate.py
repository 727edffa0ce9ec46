"""`make eval`: what it reports, of engines that do well and of those that do not."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import click
import pytest
from click.testing import CliRunner

from refinery.engines import EngineError, Generation, ModelTimeout, Usage
from refinery.integrity import take_inventory
from refinery.offline import OfflineEngine
from refinery.refiner import Refiner
from refinery.strategies import load_strategies
from scripts.evaluate import OWN_DRAFTS, exit_code, main
from scripts.evaluation.drafts import Draft, read_drafts
from scripts.evaluation.judge import Judge
from scripts.evaluation.measure import Evaluation, Result
from scripts.evaluation.table import summary, table
from scripts.service import ROOT
from tests import upstream as fake
from tests.e2e.test_service import environment
from tests.harness import ScriptedEngine
from tests.upstream import BOUND, Handler, Reply, Upstream

COMMAND = [sys.executable, "-m", "scripts.evaluate"]
# A shell that starts the tests in the background has its children ignore SIGINT.
INTERRUPTIBLE = (
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "runpy.run_module('scripts.evaluate', run_name='__main__')"
)
OVERLOADED = fake.status(503, headers={"Retry-After": "0"})


def lines_of(prompts: Iterable[str]) -> str:
    return "".join(json.dumps({"prompt": prompt, "source": prompt.split()[0]}) + "\n" for prompt in prompts)


def evaluate(
    folder: Path, *arguments: str, prompts: Sequence[str] = (), upstream: Upstream | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, on `prompts` from standard input or on our own."""
    settings = {"OPENAI_BASE_URL": upstream.url, "OPENAI_MODEL": "m"} if upstream else {}
    return subprocess.run(
        [*COMMAND, *(["--prompts", "-"] if prompts else []), *arguments],
        cwd=ROOT,
        env={**os.environ, **environment(folder, **settings)},
        input=lines_of(prompts),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def written(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "eval.ndjson").read_text("utf-8").splitlines()
    return sorted(map(json.loads, lines), key=lambda line: int(line["number"]))


def verdict(name: str, *, language_kept: bool = True) -> Reply:
    return fake.completion(json.dumps({"verdict": name, "language_kept": language_kept, "reason": "It is."}))


def model(refine: Reply, judge: Reply) -> Reply:
    """One that refines, and in its other role judges; a judge gets a single message."""
    return Reply(lambda handler: (judge if len(handler.received.body["messages"]) == 1 else refine).send(handler))


def by_draft(replies: Mapping[str, Reply], otherwise: Reply) -> Reply:
    """The reply of the first word that the request holds."""

    def send(handler: Handler) -> None:
        said = json.dumps(handler.received.body["messages"][1:])
        next((reply for word, reply in replies.items() if word in said), otherwise).send(handler)

    return Reply(send)


def better() -> Reply:
    return fake.echo(lambda draft: f"Please: {draft}")


def test_our_own_drafts_keep_their_promise_offline(tmp_path: Path) -> None:
    """Without any setting each of our drafts is refined, nothing is lost, and nobody claims to have judged."""
    done = evaluate(tmp_path)
    results = written(tmp_path)
    assert done.returncode == 0, done.stderr
    assert [result["draft"] for result in results] == [draft.prompt for draft in own_drafts()]
    assert all(result["refined"] and result["integrity"]["ok"] and not result["broken"] for result in results)
    assert {result["judgement"] for result in results} == {None}
    assert f"refined    {len(results)} of {len(results)} " in done.stdout
    assert "not judged: no model is configured" in done.stdout
    assert "a switch within one (German to English) takes a judge" in done.stdout


def test_our_own_drafts_hold_what_goes_wrong_for_users() -> None:
    """Every kind of placeholder, duplicates, code, URLs and other scripts are among them."""
    drafts = own_drafts()
    inventories = [take_inventory(draft.prompt) for draft in drafts]
    placeholders = {placeholder for inventory in inventories for placeholder in inventory.placeholders}
    for start in ("{{ ", "{{a", "${", "{r", "%(", "%s", "%d", "{0"):
        assert any(placeholder.startswith(start) for placeholder in placeholders), start
    assert any(len(set(inventory.placeholders)) < len(inventory.placeholders) for inventory in inventories)
    assert sum(len(inventory.code_blocks) for inventory in inventories) >= 3
    assert any(inventory.urls for inventory in inventories)
    assert len(drafts) == len({draft.prompt for draft in drafts}) == len({draft.source for draft in drafts}) >= 24
    assert any(draft.instructions for draft in drafts)


def own_drafts() -> list[Draft]:
    with OWN_DRAFTS.open(encoding="utf-8") as file:
        return read_drafts(file)


def test_an_answer_in_place_of_a_refinement_is_found(tmp_path: Path, upstream: Upstream) -> None:
    """The judge gets draft and answer as data, and its verdict is told; its tokens are counted apart."""
    upstream.script(model(fake.refinement("Paris."), verdict("answer")))
    done = evaluate(tmp_path, prompts=["capital of France?"], upstream=upstream)
    assert done.returncode == 0, done.stderr
    (result,) = written(tmp_path)
    assert (result["refined_prompt"], result["judgement"]["verdict"]) == ("Paris.", "answer")
    (message,) = upstream.requests[1].body["messages"]
    assert json.loads(message["content"].splitlines()[-1]) == {
        "draft": "capital of France?",
        "instructions": None,
        "candidate": "Paris.",
    }
    assert "refinement 0, answer 1, refusal 0, other 0, unjudged 0" in done.stdout
    assert re.search(r"^tokens +11 in, 7 out$", done.stdout, re.MULTILINE)
    assert re.search(r"^judge +11 in, 7 out$", done.stdout, re.MULTILINE)


def test_a_placeholder_that_is_lost_twice_is_told(tmp_path: Path, upstream: Upstream) -> None:
    """The draft came back, after two attempts, with what was missing; there is nothing to judge."""
    upstream.script(model(fake.refinement("Greet them."), verdict("refinement")))
    done = evaluate(tmp_path, prompts=["Greet {{name}}."], upstream=upstream)
    (result,) = written(tmp_path)
    assert done.returncode == 0, done.stderr
    assert (result["refined"], result["refined_prompt"], result["attempts"]) == (False, "Greet {{name}}.", 2)
    assert (result["integrity"]["ok"], result["integrity"]["lost"]) == (False, ["{{name}}"])
    assert (result["rejected"], result["length_ratio"], result["judgement"]) == ("Greet them.", None, None)
    assert re.search(r"^ +1 +Greet +no \(2\) +-1 \+0 ", done.stdout, re.MULTILINE)
    assert len(upstream.requests) == 2


def test_a_language_that_was_switched_is_told(tmp_path: Path, upstream: Upstream) -> None:
    """Another script is found by rule, another language in the same script by the judge."""
    switched = {"Chinese": fake.refinement("写一首诗"), "schreib": fake.refinement("Write a poem.")}
    judged = by_draft({}, verdict("refinement", language_kept=False))
    upstream.script(model(by_draft(switched, better()), judged))
    done = evaluate(tmp_path, prompts=["a poem, not in Chinese", "schreib ein Gedicht"], upstream=upstream)
    assert [result["integrity"]["script_changed"] for result in written(tmp_path)] == [True, False]
    assert [row.split()[5] for row in done.stdout.splitlines()[1:3]] == ["changed", "changed"]
    assert "writing system kept in 1 of 2; the judge says kept: 0, changed: 2, nothing: 0" in done.stdout


def test_failures_are_counted_and_do_not_stop_the_run(tmp_path: Path, upstream: Upstream) -> None:
    """What failed is told by kind; the other drafts are refined."""
    failing = {"two": OVERLOADED, "four": fake.html()}
    upstream.script(model(by_draft(failing, better()), verdict("refinement")))
    done = evaluate(tmp_path, "--concurrency", "2", prompts=["one", "two", "three", "four"], upstream=upstream)
    assert done.returncode == 0, done.stderr
    results = written(tmp_path)
    assert [result["refined"] for result in results] == [True, False, True, False]
    assert results[1]["failure"]["kind"] == "UpstreamUnavailable"
    assert results[1]["failure"]["upstream_status"] == 503
    assert "failures   UpstreamUnavailable 1, UnusableAnswer 1" in done.stdout
    assert "tokens     22 in, 14 out; unknown for 2" in done.stdout


def test_a_run_in_which_all_failed_says_so(tmp_path: Path, upstream: Upstream) -> None:
    """The exit status is 1 when nothing was refined."""
    upstream.script(OVERLOADED)
    done = evaluate(tmp_path, prompts=["one", "two"], upstream=upstream)
    assert done.returncode == 1
    assert "failures   UpstreamUnavailable 2" in done.stdout
    assert "length     unknown of the draft" in done.stdout


def test_a_draft_that_came_back_as_it_was_is_not_judged(tmp_path: Path, upstream: Upstream) -> None:
    """Nothing is spent on the question whether a draft is itself."""
    upstream.script(fake.echo())
    done = evaluate(tmp_path, prompts=["Good."], upstream=upstream)
    assert "refined    1 of 1 (1 unchanged)" in done.stdout
    assert len(upstream.requests) == 1


def test_a_judge_that_talks_judges_nothing(tmp_path: Path, upstream: Upstream) -> None:
    """No verdict is guessed, and the run goes on."""
    upstream.script(model(better(), fake.completion("Looks like a refinement to me!")))
    done = evaluate(tmp_path, prompts=["one", "two"], upstream=upstream)
    assert done.returncode == 0, done.stderr
    assert "refinement 0, answer 0, refusal 0, other 0, unjudged 2" in done.stdout


def judged_as(outcome: Generation | EngineError) -> tuple[str, bool | None]:
    judgement = Judge(ScriptedEngine([outcome]), "m", seconds=5).judge("draft", None, "candidate")
    assert judgement.usage == Usage(3, 4)
    return judgement.verdict, judgement.language_kept


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"verdict": "answer", "language_kept": false, "reason": "r"}', ("answer", False)),
        ('```json\n{"verdict": "other", "language_kept": true, "reason": "r"}\n```\n', ("other", True)),
        ('\n {"reason": "r", "verdict": "refusal", "confidence": 1}', ("refusal", None)),
        ('The text says {"verdict": "refinement", "language_kept": true, "reason": "r"}', ("unjudged", None)),
        ('{"verdict": "excellent", "reason": "r"}', ("unjudged", None)),
        ('{"verdict": "answer", "language_kept": "yes", "reason": "r"}', ("unjudged", None)),
        ('{"verdict": "answer"}', ("unjudged", None)),
        ('{"verdict": "answer", "reas', ("unjudged", None)),
        ('[{"verdict": "answer", "reason": "r"}]', ("unjudged", None)),
        ("null", ("unjudged", None)),
    ],
)
def test_only_a_whole_judgement_counts(text: str, expected: tuple[str, bool | None]) -> None:
    """A code fence is taken off; anything else but one object of the agreed shape is no judgement."""
    assert judged_as(Generation(text, "stop", Usage(3, 4))) == expected


def test_a_judge_that_fails_judges_nothing() -> None:
    """A failure of the judge is no verdict on the refinement, and what it cost is counted."""
    assert judged_as(ModelTimeout("late", usage=Usage(3, 4))) == ("unjudged", None)


def answer_then_hold(upstream: Upstream) -> Reply:
    """Give the draft back, and keep back the answer to whatever comes next."""

    def send(handler: Handler) -> None:
        upstream.hold()
        fake.echo().send(handler)

    return Reply(send)


def started(folder: Path, upstream: Upstream, prompts: Sequence[str]) -> subprocess.Popen[str]:
    (folder / "prompts.ndjson").write_text(lines_of(prompts), "utf-8")
    arguments = ["--prompts", str(folder / "prompts.ndjson"), "--concurrency", "1"]
    return subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment(folder, OPENAI_BASE_URL=upstream.url)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_run_keeps_what_it_paid_for(tmp_path: Path, upstream: Upstream) -> None:
    """Each line is whole and in the file before the next draft is sent."""
    upstream.script(answer_then_hold(upstream))
    with started(tmp_path, upstream, ["one", "two", "three"]) as process:
        upstream.wait_for(2)
        process.kill()
    assert [result["draft"] for result in written(tmp_path)] == ["one"]


def test_an_interrupted_run_spends_no_more(tmp_path: Path, upstream: Upstream) -> None:
    """After Ctrl-C no draft is begun; the one under way is waited for and written."""
    upstream.script(answer_then_hold(upstream))
    with started(tmp_path, upstream, ["one", "two", "three"]) as process:
        assert process.stderr is not None
        upstream.wait_for(2)
        process.send_signal(signal.SIGINT)
        assert any("waiting for the 1 under way" in line for line in process.stderr)
        upstream.release()
        assert process.wait(BOUND) == 1
    assert [result["draft"] for result in written(tmp_path)] == ["one", "two"]
    assert len(upstream.requests) == 2


def test_the_table_is_in_the_order_of_the_input(tmp_path: Path, upstream: Upstream) -> None:
    """A draft that is answered late stays in its row."""
    second_came = Event()

    def late(handler: Handler) -> None:
        assert second_came.wait(BOUND)
        fake.echo().send(handler)

    def early(handler: Handler) -> None:
        fake.echo().send(handler)
        second_came.set()

    upstream.script(by_draft({"one": Reply(late)}, Reply(early)))
    done = evaluate(tmp_path, "--concurrency", "2", prompts=["one", "two"], upstream=upstream)
    assert [row.split()[1] for row in done.stdout.splitlines()[1:3]] == ["one", "two"]


def test_models_are_compared_by_one_judge(tmp_path: Path, upstream: Upstream) -> None:
    """`--model` refines, and the configured model judges, unless another is named."""
    upstream.script(model(better(), verdict("refinement")))
    evaluate(tmp_path, "--model", "small", prompts=["one"], upstream=upstream)
    evaluate(tmp_path, "--model", "small", "--judge-model", "large", prompts=["one"], upstream=upstream)
    assert [request.body["model"] for request in upstream.requests] == ["small", "m", "small", "large"]


def test_strategy_and_instructions_reach_the_model(tmp_path: Path, upstream: Upstream) -> None:
    """The strategy asked for is the one that is measured."""
    (tmp_path / "in.ndjson").write_text('{"prompt": "a", "instructions": "Shorter."}\n\n{"prompt": "b"}\n', "utf-8")
    evaluate(
        tmp_path, "--strategy", "concise", "--limit", "1", "--prompts", str(tmp_path / "in.ndjson"), upstream=upstream
    )
    (request,) = upstream.requests
    system, task = request.body["messages"]
    assert system["content"] == load_strategies()["concise"].system
    assert json.loads(task["content"])["instructions"] == "Shorter."


def invoke(folder: Path, *arguments: str, stdin: str = '{"prompt": "x"}\n') -> tuple[int, str]:
    result = CliRunner().invoke(main, ["--prompts", "-", *arguments], input=stdin, env=environment(folder))
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        (["--strategy", "pirate"], '{"prompt": "x"}', "'pirate' is none of general, agent, concise, structured"),
        ([], "", "there is no draft in it"),
        ([], '{"prompt": "x"}\n{"prompt": " "}\n', "line 2: prompt: must not be blank"),
        ([], '{"prompt": 1}', "line 1: prompt: Input should be a valid string"),
        ([], '{"prompt": "\\ud800"}', "line 1: "),
        ([], '"x"', "line 1: Input should be an object"),
        (["--limit", "0"], '{"prompt": "x"}', "--limit"),
        (["--prompts", "/nowhere.ndjson"], "", "No such file"),
        (["--out", "/dev/null/x"], '{"prompt": "x"}', "--out"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_spent(
    tmp_path: Path, arguments: list[str], stdin: str, said: str
) -> None:
    """The exit status is 2, and one line says what is wrong."""
    code, output = invoke(tmp_path, *arguments, stdin=stdin)
    assert code == 2
    assert said in output.splitlines()[-1]


def test_a_wrong_setting_is_told(tmp_path: Path) -> None:
    """As at the service's start, in one line that names it."""
    env = {**environment(tmp_path), "OPENAI_BASE_URL": "model"}
    result = CliRunner().invoke(main, env=env)
    assert result.exit_code == 2
    assert result.output.splitlines()[-1].startswith("Error: OPENAI_BASE_URL: ")


def test_a_full_disk_ends_the_run(tmp_path: Path) -> None:
    """Nothing is bought that cannot be kept."""
    if not Path("/dev/full").exists():
        pytest.skip("/dev/full is not here")
    code, output = invoke(tmp_path, "--out", "/dev/full")
    assert code == 1
    assert "/dev/full: No space left on device" in output


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    """It holds people's prompts."""
    out = tmp_path / "new/eval.ndjson"
    assert invoke(tmp_path, "--out", str(out))[0] == 0
    assert out.stat().st_mode & 0o777 == 0o600


def measured(prompt: str, source: str | None = None) -> Result:
    refiner = Refiner(OfflineEngine(), load_strategies())
    return Evaluation(refiner, None, "general", "m", seconds=5).run(1, Draft(prompt=prompt, source=source))


def test_a_broken_prompt_that_is_given_out_as_good_is_the_worst_case() -> None:
    """It is looked for in the text itself, whatever the report beside it says, and fails the run."""
    good = measured("Greet {{name}}.")
    assert good.refinement is not None
    bad = replace(good, refinement=replace(good.refinement, refined_prompt="Greet them."))
    assert bad.refinement is not None
    assert bad.refinement.integrity.ok
    assert (exit_code([good]), exit_code([good, bad])) == (0, 1)
    assert "BROKEN" in next(row for row in table([bad], judged=False) if row.startswith("  1"))
    assert any("BROKEN BUT GIVEN OUT AS GOOD: 1" in line for line in summary([good, bad], judged=False))


@pytest.mark.parametrize(
    "name", ["x" * 300, "帮我写一个保温杯的商品介绍" * 9, "\x1b[2J\x07bell\nline", "cafe\u0301 " * 20]
)
@pytest.mark.parametrize("made", [lambda name: measured("x", name), measured], ids=["source", "prompt"])
def test_any_name_leaves_the_table_in_order(name: str, made: Callable[[str], Result]) -> None:
    """Rows fit a hundred columns and start their figures below the headings; no control reaches the terminal."""
    heading, row = (click.unstyle(line) for line in table([made(name)], judged=False))
    before = row[: row.index("yes")]
    wide = sum("\u2e80" < character < "\uffef" for character in before)
    combining = before.count("\u0301")
    assert len(before) + wide - combining == heading.index("refined")
    assert len(row) + wide - combining <= 100
    assert row.isprintable()
