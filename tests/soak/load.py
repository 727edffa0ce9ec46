"""What the callers of a soak run ask for, how they ask, and what they were told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import requests

from tests.soak.faults import better, text_for

BROKEN: Final = "broken connection"
UNANSWERED: Final = "no answer"
ANSWER_SECONDS: Final = 60.0
PATIENCE_SECONDS: Final = 300.0
# A job has so long; its caller asks after it as often.
JOB_SECONDS: Final = 100
ASKED_AFTER_SECONDS: Final = 0.5
# A caller that has to wait asks again after at most so many seconds, whatever `Retry-After` says: some come too early.
LONGEST_PAUSE_SECONDS: Final = 1.0
PAUSE_AFTER_A_BREAK_SECONDS: Final = 0.1
# After these a caller with a key asks again: each says, or may mean, that there is no answer to keep.
INDETERMINATE: Final = frozenset({"409", "503", "504", BROKEN})
ACKNOWLEDGED: Final = frozenset({"200", "201"})
TAKEN_ON: Final = "202"

JSON = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One HTTP request: its `X-Request-Id`, the status of its answer or what came in its place, and the body."""

    request_id: str
    outcome: str
    body: JSON
    replayed: bool = False
    retry_after: float = 0.0

    @property
    def acknowledged(self) -> bool:
        return self.outcome in ACKNOWLEDGED


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that a caller wants, each time that it was asked for, and what was seen of a job that was taken on."""

    marker: str
    kind: Kind
    attempts: list[Attempt] = field(default_factory=list)
    seen: list[JSON] = field(default_factory=list)

    @property
    def prompt(self) -> str:
        return f"{self.marker}: greet {{{{name}}}}, who waits since {{{{date}}}}"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request and its share of all.

    `ask` makes its requests, `body` is what each of them sends, `response` what the record must hold after an answer.
    """

    name: str
    weight: int
    path: str
    ask: Callable[[Caller, Case], None]
    body: Callable[[str], JSON]
    response: Callable[[Case, JSON], object]
    keyed: bool = False
    reaches_the_model: bool = True
    background: bool = False

    @property
    def success(self) -> str:
        """The status of an answer to it that is no failure."""
        return TAKEN_ON if self.background else "201" if self.path == "/log-request" else "200"


class Caller:
    """One thread's connection to the service."""

    def __init__(self, url: str, bearer: Mapping[str, str]) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.headers.update(bearer)

    def work(self, cases: Iterator[Case]) -> None:
        """Ask for one case after the other, as long as there are any."""
        with self._session:
            for case in cases:
                case.kind.ask(self, case)

    def post(self, case: Case) -> Attempt:
        """Ask once, and keep what came of it with the case."""
        request_id = f"{case.marker}.{len(case.attempts) + 1}"
        headers = {
            "X-Request-Id": request_id,
            **({"Idempotency-Key": case.marker} if case.kind.keyed else {}),
            **({"Prefer": "respond-async"} if case.kind.background else {}),
        }
        try:
            answer = self._session.post(
                f"{self._url}{case.kind.path}",
                json=case.kind.body(case.prompt),
                headers=headers,
                timeout=ANSWER_SECONDS,
            )
        except requests.Timeout:
            attempt = Attempt(request_id, UNANSWERED, {})
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            attempt = Attempt(request_id, BROKEN, {}, retry_after=PAUSE_AFTER_A_BREAK_SECONDS)
        else:
            attempt = _attempt(request_id, answer)
        case.attempts.append(attempt)
        return attempt

    def look(self, record_id: str) -> JSON:
        """What a job's refinement is now; nothing where that cannot be said."""
        try:
            answer = self._session.get(f"{self._url}/refine/{record_id}", timeout=ANSWER_SECONDS)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
            return {}
        return answer.json() if answer.ok else {}


def _attempt(request_id: str, answer: requests.Response) -> Attempt:
    headers = answer.headers
    replayed = headers.get("Idempotent-Replayed") == "true"
    return Attempt(request_id, str(answer.status_code), answer.json(), replayed, float(headers.get("Retry-After", 0)))


def once(caller: Caller, case: Case) -> None:
    """Ask, and take what comes."""
    caller.post(case)


def until_it_is_known(caller: Caller, case: Case) -> None:
    """Ask with one key until there is an answer to keep, and then once more for the same."""
    ends = time.monotonic() + PATIENCE_SECONDS
    for _ in range(2):
        while (attempt := caller.post(case)).outcome in INDETERMINATE and time.monotonic() < ends:
            time.sleep(min(attempt.retry_after, LONGEST_PAUSE_SECONDS))


def in_background(caller: Caller, case: Case) -> None:
    """Have a job taken on, and look after it until it has ended."""
    attempt = caller.post(case)
    ends = time.monotonic() + JOB_SECONDS + PATIENCE_SECONDS
    while attempt.outcome == TAKEN_ON and time.monotonic() < ends:
        seen = caller.look(attempt.body["id"])
        if seen.get("status", "pending") != "pending":
            case.seen.append(seen)
            break
        time.sleep(ASKED_AFTER_SECONDS)


def _prompt(prompt: str) -> JSON:
    return {"prompt": prompt}


def _report(prompt: str) -> JSON:
    return {"prompt": prompt, "response": text_for(prompt), "metadata": {"$soak": [1, 2.5, None]}}


def _refined(_: Case, body: JSON) -> object:
    return body["refined_prompt"]


def _generated(_: Case, body: JSON) -> object:
    return body["generated_text"]


def _reported(case: Case, _: JSON) -> object:
    return text_for(case.prompt)


KINDS: Final = (
    Kind("refine", 30, "/refine", once, _prompt, _refined),
    Kind("refine, with a key", 30, "/refine", until_it_is_known, _prompt, _refined, keyed=True),
    Kind("refine, in the background", 10, "/refine", in_background, _prompt, _refined, background=True),
    Kind("generate", 10, "/generate", once, _prompt, _generated),
    Kind("generate, with a key", 10, "/generate", until_it_is_known, _prompt, _generated, keyed=True),
    Kind("report", 10, "/log-request", once, _report, _reported, reaches_the_model=False),
    Kind(
        "report, with a key",
        10,
        "/log-request",
        until_it_is_known,
        _report,
        _reported,
        keyed=True,
        reaches_the_model=False,
    ),
)


def cases(count: int, seed: int, kinds: Sequence[Kind] = KINDS) -> list[Case]:
    """So many cases, their kinds as the seed says."""
    chance = Random(seed)  # noqa: S311 - chance, no secret
    drawn = chance.choices(kinds, [kind.weight for kind in kinds], k=count)
    return [Case(f"soak-{number:06}", kind) for number, kind in enumerate(drawn)]


def expected_of(case: Case) -> str:
    """What a succeeded record of this case holds as its response."""
    return better(case.prompt) if case.kind.path == "/refine" else text_for(case.prompt)
