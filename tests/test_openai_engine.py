"""The engine that asks a model, against a real HTTP server that can do everything wrong."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from refinery.deadline import Deadline
from refinery.engines import (
    EngineError,
    ModelRefused,
    ModelTimeout,
    Rejection,
    Task,
    UnusableAnswer,
    UpstreamRejected,
    UpstreamUnavailable,
    Usage,
)
from refinery.openai_engine import MAX_ATTEMPTS, OpenAIEngine
from refinery.transport import MAX_ANSWER_BYTES, verifying_context
from tests import upstream as fake
from tests.upstream import MARKER, Reply, Upstream

API_KEY = "sk-canary-of-the-tests"
GOOD = fake.refinement("Better.", [{"reason": "clearer", "before": "a", "after": "b"}], ["It is English."])


class Pauses(list[float]):
    """Stands in for `time.sleep`: keeps the pauses instead of making them."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def engine(upstream: Upstream, pauses: Pauses) -> Iterator[OpenAIEngine]:
    built = OpenAIEngine(API_KEY, upstream.url, sleep=pauses)
    yield built
    built.close()


def task(**changes: object) -> Task:
    values: dict[str, object] = {
        "draft": "do {{x}}",
        "instructions": None,
        "system": "Improve prompts.",
        "must_keep": ("{{x}}",),
        "model": "gpt-test",
    }
    return Task(**{**values, **changes})  # type: ignore[arg-type]


def soon() -> Deadline:
    return Deadline.after(10)


def test_the_model_is_asked_as_the_contract_says(engine: OpenAIEngine, upstream: Upstream) -> None:
    """System message, one JSON user message, a strict schema, our key, and no compression."""
    upstream.script(GOOD)
    engine.rewrite(task(instructions="shorter"), soon())
    request = upstream.requests[0]
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {API_KEY}"
    assert request.headers["accept-encoding"] == "identity"
    system, user = request.body["messages"]
    assert system == {"role": "system", "content": "Improve prompts."}
    assert user["role"] == "user"
    assert json.loads(user["content"]) == {"draft": "do {{x}}", "instructions": "shorter", "must_keep": ["{{x}}"]}
    schema = request.body["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"]["additionalProperties"] is False
    assert request.body["model"] == "gpt-test"


def test_a_rejection_follows_as_a_second_user_message(engine: OpenAIEngine, upstream: Upstream) -> None:
    """The corrective attempt tells the model exactly what it lost and added."""
    upstream.script(GOOD)
    engine.rewrite(task(rejection=Rejection("bad", ("{{x}}",), ("{{y}}",))), soon())
    messages = upstream.requests[0].body["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "user"]
    assert json.loads(messages[2]["content"]) == {"rejected": "bad", "lost": ["{{x}}"], "added": ["{{y}}"]}


def test_a_good_answer_is_read_whole(engine: OpenAIEngine, upstream: Upstream) -> None:
    """Refined prompt, changes, assumptions, model and usage come from the answer."""
    upstream.script(GOOD)
    rewrite = engine.rewrite(task(), soon())
    assert rewrite.refined_prompt == "Better."
    assert [(change.reason, change.before, change.after) for change in rewrite.changes] == [("clearer", "a", "b")]
    assert rewrite.assumptions == ("It is English.",)
    assert (rewrite.model, rewrite.usage) == ("gpt-test", Usage(11, 7))


def answer(content: str, **options: object) -> Reply:
    return fake.completion(content, **options)  # type: ignore[arg-type]


REFINEMENT = {"refined_prompt": "Better.", "changes": [], "assumptions": []}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(json.dumps(REFINEMENT), id="plain"),
        pytest.param(f"```json\n{json.dumps(REFINEMENT)}\n```", id="fenced"),
        pytest.param(f"\n```\n{json.dumps(REFINEMENT)}\n```\n", id="fenced without a word"),
        pytest.param(json.dumps({**REFINEMENT, "note": "extra"}), id="a field more"),
    ],
)
def test_the_json_is_found(engine: OpenAIEngine, upstream: Upstream, content: str) -> None:
    """JSON counts with or without a code fence around it."""
    upstream.script(answer(content))
    assert engine.rewrite(task(), soon()).refined_prompt == "Better."


def test_an_answer_without_usage_is_accepted(engine: OpenAIEngine, upstream: Upstream) -> None:
    """Servers that do not count tokens leave them unknown."""
    upstream.script(answer(json.dumps(REFINEMENT), usage=None))
    assert engine.rewrite(task(), soon()).usage == Usage(None, None)


@pytest.mark.parametrize("count", [-1, 2**53 + 1, 10**400, 7.0, "7", True])
def test_a_count_that_is_none_is_unknown(engine: OpenAIEngine, upstream: Upstream, count: object) -> None:
    """What no store could keep does not cost the paid answer."""
    upstream.script(answer(json.dumps(REFINEMENT), usage={"prompt_tokens": count, "completion_tokens": 2**53}))
    assert engine.rewrite(task(), soon()).usage == Usage(None, 2**53)


UNUSABLE = {
    "malformed": fake.malformed(),
    "empty": fake.empty(),
    "html": fake.html(),
    "endless": fake.endless(),
    "compressed": fake.gzip_bomb(1),
    "a list": fake.raw_json([]),
    "no choices": fake.no_choices(),
    "choices are null": fake.raw_json({"choices": None}),
    "choice is a string": fake.raw_json({"choices": ["x"]}),
    "no message": fake.raw_json({"choices": [{"finish_reason": "stop"}]}),
    "message is a string": fake.raw_json({"choices": [{"message": "x"}]}),
    "content is null": answer(json.dumps(None)),
    "content is blank": answer(" \n"),
    "content is no JSON": answer("Here is your prompt: Better."),
    "content is another shape": answer('{"prompt": "Better."}'),
    "content is a list": answer("[]"),
    "refined prompt is blank": answer(json.dumps({**REFINEMENT, "refined_prompt": " \n"})),
    "refined prompt is a number": answer(json.dumps({**REFINEMENT, "refined_prompt": 1})),
    "refined prompt holds a NUL": answer(json.dumps({**REFINEMENT, "refined_prompt": "a\0b"})),
    "refined prompt holds a surrogate": answer('{"refined_prompt": "a\\ud800", "changes": [], "assumptions": []}'),
    "a raw surrogate": fake.body(b'{"choices": [{"message": {"content": "\\ud800"}}]}'),
    "changes are strings": answer(json.dumps({**REFINEMENT, "changes": ["x"]})),
    "cut off": answer(json.dumps(REFINEMENT), finish_reason="length"),
    "too deep": fake.body(b"[" * 200_000),
    "over the cap": fake.body(b" " * (MAX_ANSWER_BYTES + 1)),
}


@pytest.mark.parametrize("reply", [pytest.param(reply, id=name) for name, reply in UNUSABLE.items()])
def test_an_unusable_answer_is_never_a_refinement(engine: OpenAIEngine, upstream: Upstream, reply: Reply) -> None:
    """What is not a whole refinement raises, is asked for once only, and does not leak the upstream's words."""
    upstream.script(reply)
    with pytest.raises(UnusableAnswer) as caught:
        engine.rewrite(task(), soon())
    assert len(upstream.requests) == 1
    assert MARKER not in str(caught.value)


def test_an_answer_up_to_the_cap_is_read(engine: OpenAIEngine, upstream: Upstream) -> None:
    """The cap cuts nothing that is below it."""
    text = "x" * (MAX_ANSWER_BYTES - 10_000)
    upstream.script(fake.refinement(text))
    assert engine.rewrite(task(), soon()).refined_prompt == text


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(answer("{}", refusal="I will not."), id="refusal"),
        pytest.param(answer("{}", finish_reason="content_filter"), id="content filter"),
    ],
)
def test_a_refusal_is_told_apart(engine: OpenAIEngine, upstream: Upstream, reply: Reply) -> None:
    """A model that declines is no broken one, and its tokens are counted."""
    upstream.script(reply)
    with pytest.raises(ModelRefused) as caught:
        engine.rewrite(task(), soon())
    assert caught.value.usage == Usage(11, 7)


def test_a_cut_off_answer_still_counts_its_tokens(engine: OpenAIEngine, upstream: Upstream) -> None:
    """What was paid for is known, also when it cannot be used."""
    upstream.script(answer("{", finish_reason="length"))
    with pytest.raises(UnusableAnswer) as caught:
        engine.rewrite(task(), soon())
    assert caught.value.usage == Usage(11, 7)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422])
def test_a_rejection_is_not_asked_again(engine: OpenAIEngine, upstream: Upstream, pauses: Pauses, status: int) -> None:
    """What another try cannot mend is told at once, in our words."""
    upstream.script(fake.status(status))
    with pytest.raises(UpstreamRejected) as caught:
        engine.rewrite(task(), soon())
    assert caught.value.upstream_status == status
    assert MARKER not in str(caught.value)
    assert API_KEY not in str(caught.value)
    assert pauses == []


RETRIED: dict[str, tuple[Callable[[], Reply], int | None]] = {
    "429": (lambda: fake.status(429), 429),
    "408": (lambda: fake.status(408), 408),
    "500": (lambda: fake.status(500), 500),
    "502": (lambda: fake.status(502), 502),
    "503": (lambda: fake.status(503), 503),
    "529": (lambda: fake.status(529), 529),
    "close": (fake.close, None),
    "reset": (fake.reset, None),
    "reset midway": (fake.reset_midway, None),
    "truncated": (fake.truncated, None),
}
RETRIED_CASES = [pytest.param(make, status, id=name) for name, (make, status) in RETRIED.items()]


@pytest.mark.parametrize(("reply", "status"), RETRIED_CASES)
def test_an_overloaded_upstream_is_asked_three_times(
    engine: OpenAIEngine, upstream: Upstream, pauses: Pauses, reply: Callable[[], Reply], status: int | None
) -> None:
    """At most two retries, with growing pauses; then it stays unavailable."""
    upstream.script(reply())
    with pytest.raises(UpstreamUnavailable) as caught:
        engine.rewrite(task(), soon())
    assert len(upstream.requests) == MAX_ATTEMPTS == 3
    assert caught.value.upstream_status == status
    assert MARKER not in str(caught.value)
    assert len(pauses) == 2
    assert 0.5 <= pauses[0] <= pauses[1] <= 8.5


@pytest.mark.parametrize(("reply", "status"), RETRIED_CASES)
def test_a_retry_that_succeeds_is_a_success(
    engine: OpenAIEngine, upstream: Upstream, reply: Callable[[], Reply], status: int | None
) -> None:
    """One failure in front of an answer goes unnoticed."""
    upstream.script(reply(), GOOD)
    assert engine.rewrite(task(), soon()).refined_prompt == "Better."
    assert len(upstream.requests) == 2


def test_retry_after_is_honoured(engine: OpenAIEngine, upstream: Upstream, pauses: Pauses) -> None:
    """The pause is the one the upstream asked for."""
    upstream.script(fake.status(429, headers={"Retry-After": "3"}), GOOD)
    engine.rewrite(task(), soon())
    assert pauses == [3.0]


@pytest.mark.parametrize("value", ["60", "Wed, 21 Oct 2099 07:28:00 GMT", "-1", "soon"])
def test_a_pause_beyond_the_deadline_is_not_made(
    engine: OpenAIEngine, upstream: Upstream, pauses: Pauses, value: str
) -> None:
    """A pause that would use up the time left ends the call; what is no number of seconds is no pause."""
    upstream.script(fake.status(503, headers={"Retry-After": value}))
    with pytest.raises(UpstreamUnavailable) as caught:
        engine.rewrite(task(), soon())
    assert caught.value.retry_after == (60.0 if value == "60" else None)
    assert len(pauses) == (0 if value == "60" else 2)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(fake.silent, id="silent"),
        pytest.param(fake.drip, id="a slow drip of body"),
        pytest.param(fake.drip_headers, id="a slow drip of headers"),
    ],
)
def test_the_deadline_is_one_wall_clock_over_everything(
    engine: OpenAIEngine, upstream: Upstream, reply: Callable[[], Reply]
) -> None:
    """An upstream that never ends is left at the deadline, however many bytes it sends."""
    upstream.script(reply())
    started = time.monotonic()
    with pytest.raises(ModelTimeout):
        engine.rewrite(task(), Deadline.after(0.5))
    assert 0.4 < time.monotonic() - started < 5
    assert len(upstream.requests) == 1


def test_no_time_left_asks_nobody(engine: OpenAIEngine, upstream: Upstream) -> None:
    """A deadline that has passed costs nothing."""
    with pytest.raises(ModelTimeout):
        engine.rewrite(task(), Deadline.after(0))
    assert upstream.requests == []


def test_retries_share_the_deadline(upstream: Upstream) -> None:
    """Pauses and attempts together end by the deadline."""
    clock = iter(range(0, 1000, 4))
    engine = OpenAIEngine(API_KEY, upstream.url, sleep=Pauses())
    upstream.script(fake.status(500))
    with pytest.raises(EngineError):
        engine.rewrite(task(), Deadline(at=11, clock=lambda: float(next(clock))))
    engine.close()
    assert len(upstream.requests) < MAX_ATTEMPTS


def test_a_redirect_is_not_followed(engine: OpenAIEngine, upstream: Upstream) -> None:
    """The prompt goes to the configured host and to no other."""
    with Upstream() as elsewhere:
        upstream.script(fake.redirect(f"{elsewhere.url}/chat/completions"))
        with pytest.raises(UpstreamRejected):
            engine.rewrite(task(), soon())
        assert elsewhere.requests == []


def test_a_proxy_of_the_environment_is_not_used(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would go round the deadline; `HTTP_PROXY` has no say."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    engine = OpenAIEngine(API_KEY, upstream.url)
    upstream.script(GOOD)
    assert engine.rewrite(task(), soon()).refined_prompt == "Better."
    engine.close()


def test_a_server_without_response_format_is_asked_in_plain_text(engine: OpenAIEngine, upstream: Upstream) -> None:
    """A 400 to the schema is asked again without it, and the next call does not try it first."""
    upstream.script(fake.without_response_format(GOOD))
    assert engine.rewrite(task(), soon()).refined_prompt == "Better."
    assert engine.rewrite(task(), soon()).refined_prompt == "Better."
    assert ["response_format" in request.body for request in upstream.requests] == [True, False, False]


def test_a_400_for_another_reason_does_not_give_up_the_schema(engine: OpenAIEngine, upstream: Upstream) -> None:
    """One draft that is too long does not cost the next ones their schema."""
    upstream.script(fake.status(400), fake.status(400), GOOD)
    with pytest.raises(UpstreamRejected):
        engine.rewrite(task(), soon())
    engine.rewrite(task(), soon())
    assert ["response_format" in request.body for request in upstream.requests] == [True, False, True]


def test_a_400_that_passes_does_not_give_up_the_schema(engine: OpenAIEngine, upstream: Upstream) -> None:
    """Only a server that names the parameter is asked without it from then on, also when the second try was good."""
    upstream.script(fake.status(400), GOOD, GOOD)
    engine.rewrite(task(), soon())
    engine.rewrite(task(), soon())
    assert ["response_format" in request.body for request in upstream.requests] == [True, False, True]


@pytest.mark.parametrize("code", ["content_filter", "content_policy_violation"])
def test_a_filter_before_the_model_is_a_refusal(engine: OpenAIEngine, upstream: Upstream, code: str) -> None:
    """A prompt that a filter stopped is asked once, and is not called a wrong request."""
    upstream.script(fake.status(400, body={"error": {"message": MARKER, "code": code, "param": "prompt"}}))
    with pytest.raises(ModelRefused) as caught:
        engine.rewrite(task(), soon())
    assert (len(upstream.requests), caught.value.upstream_status) == (1, 400)
    assert MARKER not in str(caught.value)


def test_nobody_listens() -> None:
    """A refused connection is an unavailable upstream."""
    engine = OpenAIEngine(API_KEY, "http://127.0.0.1:9/v1", sleep=Pauses())
    with pytest.raises(UpstreamUnavailable):
        engine.rewrite(task(), soon())
    engine.close()


@pytest.fixture
def self_signed(tmp_path: Path) -> ssl.SSLContext:
    """A server's context whose certificate no authority has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    unencrypted = serialization.NoEncryption()
    pem = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, unencrypted)
    (tmp_path / "server.pem").write_bytes(pem + certificate.public_bytes(encoding))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    return context


def test_a_certificate_is_verified(self_signed: ssl.SSLContext) -> None:
    """A server that cannot prove its name gets no prompt."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        engine = OpenAIEngine(API_KEY, f"https://localhost:{listener.getsockname()[1]}/v1", sleep=Pauses())
        refused = ThreadPoolExecutor(1).submit(_handshakes, listener, self_signed)
        with pytest.raises(UpstreamUnavailable) as caught:
            engine.rewrite(task(), soon())
        engine.close()
        assert refused.result(timeout=10) == MAX_ATTEMPTS
    assert "CERTIFICATE_VERIFY_FAILED" in str(caught.value.__cause__.__cause__)  # type: ignore[union-attr]


def _accepts(context: ssl.SSLContext, server: ssl.SSLContext) -> bool:
    """Whether a client with this context takes the server's certificate for localhost's."""
    inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = context.wrap_bio(inward, outward, server_hostname="localhost")
    answering = server.wrap_bio(outward, inward, server_side=True)
    for _ in range(4):
        for side in (asking, answering):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError:
                return False
    return True


def test_certificates_are_found_by_their_hash(
    self_signed: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the bundle's certificates lie one by one too, those are trusted, and no other."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl, which names a certificate by its hash, is not installed")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    pem = tmp_path / "server.pem"
    name = subprocess.check_output([program, "x509", "-in", pem, "-noout", "-hash"], text=True).strip()
    bundle = Path(ssl.get_default_verify_paths().openssl_cafile).resolve()
    trusting, other = tmp_path / "trusting", tmp_path / "other"
    for folder, file in ((trusting, f"{name}.0"), (other, "00000000.0")):
        folder.mkdir()
        # The certificate alone: the server's key stands before it.
        (folder / file).write_bytes(pem.read_bytes()[pem.read_bytes().index(b"-----BEGIN CERTIFICATE") :])
    assert _accepts(verifying_context({bundle: trusting}), self_signed)
    assert not _accepts(verifying_context({bundle: other}), self_signed)
    assert not _accepts(verifying_context({}), self_signed)


@pytest.mark.parametrize("stores", [{}, None])
def test_what_an_operator_trusts_is_trusted(
    self_signed: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stores: dict[Path, Path] | None
) -> None:
    """`SSL_CERT_FILE` counts more than what the system trusts, however that lies there."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
    assert _accepts(verifying_context() if stores is None else verifying_context(stores), self_signed)


def _handshakes(listener: socket.socket, context: ssl.SSLContext) -> int:
    """Offer TLS to each attempt; count those that the peer broke off."""
    broken = 0
    for _ in range(MAX_ATTEMPTS):
        connection, _ = listener.accept()
        with connection:
            try:
                context.wrap_socket(connection, server_side=True).close()
            except OSError:
                broken += 1
    return broken


def test_a_silent_handshake_ends_at_the_deadline() -> None:
    """A server that accepts and never speaks TLS holds the call no longer than any other."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        engine = OpenAIEngine(API_KEY, f"https://127.0.0.1:{listener.getsockname()[1]}/v1", sleep=Pauses())
        started = time.monotonic()
        with pytest.raises(ModelTimeout):
            engine.rewrite(task(), Deadline.after(0.5))
        engine.close()
    assert time.monotonic() - started < 5


def test_one_connection_serves_many_calls(engine: OpenAIEngine, upstream: Upstream) -> None:
    """The client and its connection are reused."""
    upstream.script(GOOD)
    for _ in range(5):
        engine.rewrite(task(), soon())
    assert (len(upstream.requests), upstream.connections) == (5, 1)
