"""What a view says of itself. What its guard, its models and its path say anyway is not said again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

V = TypeVar("V", bound=Callable[..., Any])
_ATTRIBUTE = "operation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of the API, under the name (`id`) that generated clients give it: it must stay.

    `body` is the model of a JSON body, `form` that of a form in its place, `query` that of the query string. `answers`
    has the model of each answer that is no error, by status, or `None` where it has no body. `headers` names what such
    an answer carries beyond what all do (keys of `openapi.components.HEADERS`). `idempotent` is an operation that takes
    an `Idempotency-Key`, `asynchronous` one that may be done in the background, `oauth` one whose requests and errors
    have the form of RFC 6749, `raises` the errors that only its work can raise (a base stands for all below it), and
    `links` the operations that an answer leads to, each with the expressions of its parameters
    (https://spec.openapis.org/oas/v3.1.0#link-object).
    """

    id: str
    summary: str
    text: str = ""
    answers: Mapping[int, type[BaseModel] | None]
    body: type[BaseModel] | None = None
    form: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    idempotent: bool = False
    asynchronous: bool = False
    oauth: bool = False
    raises: tuple[type[Exception], ...] = ()
    headers: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    links: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def describes(operation: Operation) -> Callable[[V], V]:
    """Say what the view below does. A guard around it keeps what is said."""

    def decorate(view: V) -> V:
        vars(view)[_ATTRIBUTE] = operation
        return view

    return decorate


def operation_of(view: Callable[..., Any]) -> Operation | None:
    """What a view says of itself, if it does."""
    operation: Operation | None = vars(view).get(_ATTRIBUTE)
    return operation
