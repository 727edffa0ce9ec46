"""The fake upstream's faults are really what their names say."""

from __future__ import annotations

import gzip
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests import upstream as fake
from tests.upstream import MARKER, USAGE, Reply, Upstream

PATH = "/v1/chat/completions"
ASKED = {"model": "m", "messages": [{"role": "system"}, {"role": "user", "content": json.dumps({"draft": "a draft"})}]}


def address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


@contextmanager
def connected(url: str) -> Iterator[HTTPConnection]:
    with closing(HTTPConnection(*address(url), timeout=10)) as connection:
        yield connection


def ask(connection: HTTPConnection, **extra: object) -> HTTPResponse:
    body = json.dumps({**ASKED, **extra})
    connection.request("POST", PATH, body, {"Content-Type": "application/json", "X-Name": "value"})
    return connection.getresponse()


def answer(reply: Reply, **extra: object) -> tuple[HTTPResponse, bytes]:
    with Upstream() as upstream, connected(upstream.url) as connection:
        upstream.script(reply)
        response = ask(connection, **extra)
        return response, response.read()


def content(data: bytes) -> Any:
    return json.loads(json.loads(data)["choices"][0]["message"]["content"])


@contextmanager
def asked(upstream: Upstream, timeout: float = 10) -> Iterator[socket.socket]:
    """A raw connection whose request has arrived."""
    body = json.dumps(ASKED).encode()
    already = len(upstream.requests)
    with socket.create_connection(address(upstream.url), timeout=timeout) as connection:
        connection.sendall(b"POST %s HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (PATH.encode(), len(body), body))
        upstream.wait_for(already + 1)
        yield connection


def test_a_request_is_recorded_as_it_arrived() -> None:
    """Path, lower-case header names, parsed body and raw bytes are kept."""
    with Upstream() as upstream, connected(upstream.url) as connection:
        ask(connection, temperature=0).read()
    (received,) = upstream.requests
    assert received.path == PATH
    assert received.headers["x-name"] == "value"
    assert received.body == json.loads(received.raw) == {**ASKED, "temperature": 0}


def test_replies_are_used_up_in_order_on_one_connection_and_the_last_repeats() -> None:
    """A kept-alive connection gets the scripted replies one by one."""
    with Upstream() as upstream, connected(upstream.url) as connection:
        upstream.script(fake.status(429, headers={"Retry-After": "3"}), fake.status(503), fake.raw_json([]))
        connection.connect()
        kept = connection.sock
        seen = []
        for _ in range(4):
            response = ask(connection)
            seen.append((response.status, response.headers.get("Retry-After"), MARKER in response.read().decode()))
        assert connection.sock is kept
    assert seen == [(429, "3", True), (503, None, True), (200, None, False), (200, None, False)]


def test_a_completion_has_the_shape_of_a_real_one() -> None:
    """Every argument lands in its own field, and usage can be left out."""
    plain = json.loads(answer(fake.completion("words"))[1])
    assert (plain["object"], plain["model"], plain["usage"]) == ("chat.completion", "gpt-test", USAGE)
    assert plain["choices"][0]["message"] == {"role": "assistant", "content": "words", "refusal": None}
    refused = json.loads(answer(fake.completion(None, finish_reason="length", usage=None, refusal="no", model="x"))[1])
    assert "usage" not in refused
    assert refused["model"] == "x"
    assert refused["choices"][0]["finish_reason"] == "length"
    assert refused["choices"][0]["message"]["refusal"] == "no"


def test_a_refinement_is_a_completion_whose_content_is_json() -> None:
    """The content holds the refined prompt, the changes and the assumptions."""
    change = {"reason": "clearer", "before": "a", "after": "b"}
    data = answer(fake.refinement("better", [change], ["so"]))[1]
    assert content(data) == {"refined_prompt": "better", "changes": [change], "assumptions": ["so"]}


def test_echo_answers_with_the_transformed_draft() -> None:
    """The draft in the request comes back, as it is or transformed."""
    assert content(answer(fake.echo())[1])["refined_prompt"] == "a draft"
    assert content(answer(fake.echo(str.upper))[1])["refined_prompt"] == "A DRAFT"


def test_response_format_is_refused_and_only_that() -> None:
    """A request with response_format gets a 400, the same without it the reply."""
    reply = fake.without_response_format(fake.echo())
    response, data = answer(reply, response_format={"type": "json_object"})
    assert response.status == 400
    assert json.loads(data)["error"]["param"] == "response_format"
    assert content(answer(reply)[1])["refined_prompt"] == "a draft"


def test_bodies_that_are_no_completion() -> None:
    """Malformed, empty, HTML and choiceless bodies arrive whole, with a 200."""
    response, data = answer(fake.malformed())
    assert (response.status, response.headers["Content-Type"]) == (200, "application/json")
    with pytest.raises(json.JSONDecodeError):
        json.loads(data)
    response, data = answer(fake.empty())
    assert (response.status, response.headers["Content-Length"], data) == (200, "0", b"")
    response, data = answer(fake.html())
    assert response.headers["Content-Type"].startswith("text/html")
    assert data.startswith(b"<!doctype")
    assert json.loads(answer(fake.no_choices())[1])["choices"] == []
    response, data = answer(fake.body(b"\xff", "text/plain", 502))
    assert (response.status, response.headers["Content-Type"], data) == (502, "text/plain", b"\xff")


def test_a_redirect_names_its_location() -> None:
    """The status and the Location header are the ones given."""
    response, _ = answer(fake.redirect("http://127.0.0.1:1/elsewhere", 302))
    assert (response.status, response.headers["Location"]) == (302, "http://127.0.0.1:1/elsewhere")


def test_a_gzip_bomb_is_small_on_the_wire_only() -> None:
    """A few kilobytes unpack to megabytes."""
    response, data = answer(fake.gzip_bomb(2))
    assert response.headers["Content-Encoding"] == "gzip"
    assert len(data) < 10_000
    assert len(gzip.decompress(data)) == 2 << 20


def test_truncated_ends_before_its_content_length() -> None:
    """The peer gets some of the body and then a plain end."""
    with pytest.raises(IncompleteRead) as caught:
        answer(fake.truncated())
    assert caught.value.partial
    assert caught.value.expected


def test_close_is_an_end_without_a_byte() -> None:
    """The peer reads an end of file, not an error."""
    with Upstream() as upstream:
        upstream.script(fake.close())
        with asked(upstream) as connection:
            assert connection.recv(1) == b""


def test_reset_is_a_reset_without_a_byte() -> None:
    """The peer's first read fails with ECONNRESET."""
    with Upstream() as upstream:
        upstream.script(fake.reset())
        with asked(upstream) as connection, pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_reset_midway_is_a_reset_after_half_of_the_body() -> None:
    """The headers and some of the body arrive before ECONNRESET."""
    with Upstream() as upstream, connected(upstream.url) as connection:
        upstream.script(fake.reset_midway())
        response = ask(connection)
        assert response.read(10) == fake.BEGINNING[:10]
        with pytest.raises(ConnectionResetError):
            response.read()


def test_silent_says_nothing_until_the_server_stops() -> None:
    """A read times out while the server runs, and finds the end once it stopped."""
    with ExitStack() as connections:
        with Upstream() as upstream:
            upstream.script(fake.silent())
            connection = connections.enter_context(asked(upstream, timeout=0.2))
            with pytest.raises(TimeoutError):
                connection.recv(1)
        connection.settimeout(10)
        assert connection.recv(1) == b""


def test_drip_keeps_giving_single_bytes() -> None:
    """The headers come whole, then the body byte by byte without an end."""
    with Upstream() as upstream, connected(upstream.url) as connection:
        upstream.script(fake.drip(0.001))
        response = ask(connection)
        assert response.status == 200
        assert [response.read1(100) for _ in range(20)] == [b" "] * 20


def test_drip_headers_never_reaches_the_body() -> None:
    """After the status line one header grows without an end."""
    with Upstream() as upstream:
        upstream.script(fake.drip_headers(0.001))
        with asked(upstream) as connection:
            start = b"HTTP/1.1 200 OK\r\nX-Drip: "
            seen = b""
            while len(seen) < len(start) + 20:
                seen += connection.recv(100)
            assert seen.startswith(start)
            assert not seen[len(start) :].strip(b"x")


def test_endless_begins_well_and_goes_on() -> None:
    """Megabytes arrive after a believable beginning, and more is to come."""
    with Upstream() as upstream, connected(upstream.url) as connection:
        upstream.script(fake.endless())
        response = ask(connection)
        data = response.read(8 << 20)
        assert data.startswith(fake.BEGINNING)
        assert len(data) == 8 << 20
        assert response.read(1) == b"x"


def test_held_answers_wait_for_the_release() -> None:
    """A held request has arrived, gets nothing, and gets its answer on release."""
    with Upstream() as upstream:
        upstream.hold()
        with asked(upstream, timeout=0.2) as connection:
            with pytest.raises(TimeoutError):
                connection.recv(1)
            upstream.release()
            connection.settimeout(10)
            assert connection.recv(15) == b"HTTP/1.1 200 OK"


def test_waiting_for_too_many_requests_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait is bounded and says how many arrived."""
    monkeypatch.setattr(fake, "BOUND", 0.05)
    with Upstream() as upstream, pytest.raises(AssertionError, match="0 of 1 requests arrived"):
        upstream.wait_for(1)


@pytest.mark.parametrize("fault", [fake.silent, fake.drip, fake.drip_headers, fake.endless, fake.echo])
@pytest.mark.parametrize("held", [False, True])
def test_stopping_is_prompt_and_leaves_no_thread(fault: Callable[[], Reply], held: bool) -> None:
    """Connections whose peers stay and never read do not keep the server from stopping."""
    before = threading.active_count()
    with ExitStack() as connections:
        with Upstream() as upstream:
            upstream.script(fault())
            if held:
                upstream.hold()
            for _ in range(2):
                connections.enter_context(asked(upstream))
            started = time.monotonic()
        assert time.monotonic() - started < 5
    assert threading.active_count() == before


@pytest.mark.parametrize("fault", [fake.drip, fake.drip_headers, fake.endless])
def test_a_peer_that_goes_away_ends_the_endless_replies(fault: Callable[[], Reply]) -> None:
    """The connection's thread ends while the server goes on."""
    before = threading.active_count()
    with Upstream() as upstream:
        upstream.script(fault())
        with asked(upstream) as connection:
            assert connection.recv(1) == b"H"
        deadline = time.monotonic() + 10
        while threading.active_count() > before + 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert threading.active_count() == before + 1


def test_it_runs_as_a_process_of_its_own() -> None:
    """The process says where it listens, echoes, and ends well on SIGTERM."""
    command = [sys.executable, "-m", "tests.upstream", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]) as process:
        try:
            assert process.stdout
            url = json.loads(process.stdout.readline())["url"]
            with connected(url) as connection:
                assert content(ask(connection).read())["refined_prompt"] == "a draft"
                process.send_signal(signal.SIGTERM)
                assert process.wait(10) == 0
        finally:
            process.kill()
