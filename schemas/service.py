"""The small answers: health, readiness, tokens, errors, and what may be asked for."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from .base import WHITE, Answer, JsonObject, Problem
from .log import MAX_USER_ID_CHARS

_IN_BODY = Field(description="For a client that authenticates in the body.")
# As `blueprints.tokens` checks it: not blank, no control character, and no client's id.
_CONTROL = r"\u0000-\u001f\u007f-\u009f"
_USER_ID: dict[str, Any] = {
    "minLength": 1,
    "maxLength": MAX_USER_ID_CHARS,
    "pattern": rf"^[^{_CONTROL}]*[^{_CONTROL}{WHITE}][^{_CONTROL}]*$",
    "not": {"pattern": r"^klm_[0-9A-Za-z]{16}$"},
}
_UserId = Annotated[str, Field(json_schema_extra=_USER_ID)]


class Health(Answer):
    """The process is there."""

    status: Literal["ok"] = "ok"
    version: str


class Checks(Answer):
    """What the service needs to answer."""

    storage: Literal["ok", "unreachable"]


class Readiness(Answer):
    """Whether the service can answer."""

    status: Literal["ok", "unavailable"]
    checks: Checks


class Choice(Answer):
    """Something that may be asked for by its id."""

    id: str
    description: str
    default: Annotated[bool, Field(description="It is taken where nothing is said.")]


class Models(Answer):
    """The models that may be asked for."""

    items: list[Choice]


class Strategies(Answer):
    """The strategies that may be asked for."""

    items: list[Choice]


class TokenRequest(BaseModel):
    """Client credentials (RFC 6749 §4.4), and for whom the token is. A parameter of another name is passed over."""

    grant_type: Annotated[Literal["client_credentials"], Field(description="May be left out in JSON.")] = (
        "client_credentials"
    )
    client_id: Annotated[str | SkipJsonSchema[None], _IN_BODY] = None
    client_secret: Annotated[str | SkipJsonSchema[None], _IN_BODY] = None
    scope: Annotated[
        str | SkipJsonSchema[None],
        Field(description="Space-separated; a part of the client's scopes. All of them where nothing is said."),
    ] = None
    user_id: Annotated[
        _UserId | SkipJsonSchema[None],
        Field(
            description="The end user on whose behalf the client asks: the token's subject, whose records it reads and "
            "no others. Without it the subject is the client."
        ),
    ] = None


class TokenForm(TokenRequest):
    """The same as a form, which must say `grant_type`."""

    grant_type: Literal["client_credentials"]


class Token(Answer):
    """An access token (RFC 6749 §5.1)."""

    access_token: Annotated[str, Field(description="Goes into `Authorization: Bearer …`.")]
    token_type: Literal["Bearer"] = "Bearer"
    expires_in: Annotated[int, Field(description="In seconds.")]
    scope: Annotated[str, Field(description="What the token is good for, space-separated.")]


class OAuthProblem(Answer):
    """An error of the token endpoint (RFC 6749 §5.2)."""

    error: Annotated[str, Field(description="Which kind of error this is: the code to go by.")]
    error_description: Annotated[str, Field(description="What went wrong, for people.")]


class FieldError(Answer):
    """What is wrong with one field of a body, or with one query parameter."""

    field: str
    message: str


class ProblemDocument(Problem):
    """An error (RFC 9457)."""

    request_id: Annotated[str, Field(description="The `X-Request-Id`, which leads to the service's log.")]
    errors: Annotated[
        list[FieldError] | None,
        Field(exclude_if=lambda errors: errors is None, description="Each wrong field of a 422; else left out."),
    ] = None


class Description(Answer):
    """This document: OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0)."""

    model_config = ConfigDict(extra="allow")

    openapi: str
    info: JsonObject
    paths: JsonObject
