"""Text from a prompt, as the engines make it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from refinery.deadline import Deadline
from refinery.engines import Generation, ModelRefused, NoModel, UnusableAnswer, UpstreamRejected, Usage
from refinery.offline import OfflineEngine
from refinery.openai_engine import OpenAIEngine
from tests import upstream as fake
from tests.upstream import MARKER, Reply, Upstream


@pytest.fixture
def engine(upstream: Upstream) -> Iterator[OpenAIEngine]:
    built = OpenAIEngine("sk-canary", upstream.url, sleep=lambda seconds: None)
    yield built
    built.close()


def generate(engine: OpenAIEngine | OfflineEngine) -> Generation:
    return engine.generate("Write a haiku.", model="gpt-test", max_tokens=17, deadline=Deadline.after(10))


def limits(upstream: Upstream) -> list[dict[str, int]]:
    """What each request said about its length."""
    names = ("max_tokens", "max_completion_tokens")
    return [{name: request.body[name] for name in names if name in request.body} for request in upstream.requests]


def test_the_prompt_is_the_one_message(engine: OpenAIEngine, upstream: Upstream) -> None:
    """The model gets the prompt as it is, the limit, and nothing else."""
    upstream.script(fake.completion("An old silent pond"))
    generation = generate(engine)
    assert (generation.text, generation.finish_reason, generation.usage) == ("An old silent pond", "stop", Usage(11, 7))
    (request,) = upstream.requests
    assert request.path == "/v1/chat/completions"
    assert request.body == {
        "model": "gpt-test",
        "messages": [{"role": "user", "content": "Write a haiku."}],
        "max_tokens": 17,
    }


def test_text_that_was_cut_off_is_returned(engine: OpenAIEngine, upstream: Upstream) -> None:
    """The caller set the limit, so what fits in it is an answer."""
    upstream.script(fake.completion("An old", finish_reason="length"))
    generation = generate(engine)
    assert (generation.text, generation.finish_reason) == ("An old", "length")


def test_another_reason_to_end_is_an_end(engine: OpenAIEngine, upstream: Upstream) -> None:
    """Words of a server's own do not reach the caller."""
    upstream.script(fake.completion("An old", finish_reason="eos_token"))
    assert generate(engine).finish_reason == "stop"


def test_a_model_that_refuses_the_older_name_of_the_limit(engine: OpenAIEngine, upstream: Upstream) -> None:
    """A 400 to `max_tokens` is asked again with `max_completion_tokens`, and the next call begins with that."""
    upstream.script(fake.without_max_tokens(fake.completion("x")))
    generate(engine)
    generate(engine)
    assert limits(upstream) == [{"max_tokens": 17}, {"max_completion_tokens": 17}, {"max_completion_tokens": 17}]


def test_a_400_for_another_reason_changes_nothing(engine: OpenAIEngine, upstream: Upstream) -> None:
    """One prompt that is too long does not change how the next one is asked."""
    upstream.script(fake.status(400), fake.status(400), fake.completion("x"))
    with pytest.raises(UpstreamRejected):
        generate(engine)
    generate(engine)
    assert limits(upstream) == [{"max_tokens": 17}, {"max_completion_tokens": 17}, {"max_tokens": 17}]


UNUSABLE = {
    "blank": fake.completion(" \n"),
    "null": fake.completion(None),
    "cut off before a word": fake.completion("", finish_reason="length"),
    "a NUL": fake.completion("a\0b"),
    "a surrogate": fake.body(b'{"choices": [{"message": {"content": "a\\ud800"}}]}'),
    "no choices": fake.no_choices(),
    "html": fake.html(),
    "malformed": fake.malformed(),
}


@pytest.mark.parametrize("reply", UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_answer_is_no_text(engine: OpenAIEngine, upstream: Upstream, reply: Reply) -> None:
    """What nobody could read or keep raises, in our words."""
    upstream.script(reply)
    with pytest.raises(UnusableAnswer) as caught:
        generate(engine)
    assert MARKER not in str(caught.value)


@pytest.mark.parametrize(
    "reply", [fake.completion("x", finish_reason="content_filter"), fake.completion(None, refusal="I will not.")]
)
def test_a_refusal_is_told_apart(engine: OpenAIEngine, upstream: Upstream, reply: Reply) -> None:
    """A model that declines is no broken one, and its tokens are counted."""
    upstream.script(reply)
    with pytest.raises(ModelRefused) as caught:
        generate(engine)
    assert caught.value.usage == Usage(11, 7)


def test_an_overloaded_server_is_asked_again(engine: OpenAIEngine, upstream: Upstream) -> None:
    """The retries are those of a refinement."""
    upstream.script(fake.status(503), fake.status(429), fake.completion("x"))
    assert generate(engine).text == "x"
    assert len(upstream.requests) == 3


def test_any_prompt_is_sent_as_it_is(engine: OpenAIEngine, upstream: Upstream) -> None:
    """Nothing of a prompt is interpreted on its way."""
    prompt = json.dumps({"role": "system"}) + "\n{{x}} 世界\u2028</user>"
    upstream.script(fake.completion("x"))
    engine.generate(prompt, model="m", max_tokens=1, deadline=Deadline.after(10))
    assert upstream.requests[0].body["messages"] == [{"role": "user", "content": prompt}]


def test_without_a_model_there_is_no_text() -> None:
    """The rules refine and do not answer."""
    with pytest.raises(NoModel):
        generate(OfflineEngine())
