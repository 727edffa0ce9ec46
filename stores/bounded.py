"""Connections to PostgreSQL on which no wait outlasts the operation: connecting, names to resolve, and each answer."""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from threading import Thread
from time import monotonic
from typing import Any

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.rows import TupleRow

from .within import seconds_left

OPERATION_SECONDS = 5.0
_LOOK_UP_SECONDS = 0.05


class TooLate(psycopg.OperationalError):
    """The server said nothing until the deadline."""


class BoundedConnection(psycopg.Connection[TupleRow]):
    """A connection that is closed when its server is silent at the deadline: nobody reads what comes after it."""

    def wait(self, gen: PQGen[RV], interval: float = _LOOK_UP_SECONDS, timeout: float | None = None) -> RV:
        try:
            ends = monotonic() + seconds_left(OPERATION_SECONDS)
            return super().wait(_ending(gen, ends), min(interval, _LOOK_UP_SECONDS), timeout)
        except TooLate:
            self.close()
            raise


def _ending(gen: PQGen[RV], ends: float) -> PQGen[RV]:
    # Resumed at every event and, without one, at every interval of the wait.
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if monotonic() >= ends:
                raise TooLate("PostgreSQL did not answer in time")
            wanted = gen.send(ready)
    except StopIteration as end:
        result: RV = end.value
        return result


def connect(_dialect: object, _record: object, arguments: list[Any], parameters: dict[str, Any]) -> BoundedConnection:
    """A connection by SQLAlchemy's event `do_connect`.

    Another thread makes it: a name that is being resolved cannot be interrupted, and the driver's own limit counts
    whole seconds, at least two, for each address. Raises: `psycopg.Error`.
    """
    outcome: Future[BoundedConnection] = Future()
    Thread(target=_connect, args=(outcome, arguments, parameters), daemon=True).start()
    try:
        return outcome.result(seconds_left(OPERATION_SECONDS))
    except NotYet:
        outcome.add_done_callback(_close)
        raise TooLate("PostgreSQL did not take a connection in time") from None


def _connect(outcome: Future[BoundedConnection], arguments: list[Any], parameters: dict[str, Any]) -> None:
    try:
        outcome.set_result(BoundedConnection.connect(*arguments, **parameters))
    except psycopg.Error as error:
        outcome.set_exception(error)
    except (OSError, ValueError) as error:
        # The resolver's: a host name of more than 63 characters is a `UnicodeError` to it.
        outcome.set_exception(psycopg.OperationalError(str(error)))


def _close(outcome: Future[BoundedConnection]) -> None:
    with suppress(psycopg.Error):
        outcome.result().close()
