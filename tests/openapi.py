"""The API's description as the tests use it: its operations, and checks of real answers against what it says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator
from werkzeug.test import TestResponse

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Described:
    """One operation of a description."""

    document: Json
    path: str
    method: str
    says: Json

    @property
    def id(self) -> str:
        return str(self.says["operationId"])

    def codes(self, status: int) -> Json:
        """The examples of a status by their codes; an answer that is no error has an empty one."""
        response = self.says["responses"].get(str(status), {"content": {}})
        examples = [example for media in response.get("content", {}).values() for example in values(media)]
        return {code_of(example): example for example in examples} or ({"": None} if "description" in response else {})

    def check(self, answer: TestResponse) -> None:
        """The answer is one that is described: status, headers, content type, and a body with no further field."""
        response = self.says["responses"].get(str(answer.status_code))
        assert response, f"{self.id} is not said to answer {answer.status_code}: {answer.text}"
        unsaid = {key for key in self.document["components"]["headers"] if key in answer.headers} - set(
            response["headers"]
        )
        assert not unsaid, f"{self.id} is not said to send {unsaid} with {answer.status_code}"
        for name, reference in response["headers"].items():
            self._check_header(reference["$ref"].rpartition("/")[2], answer.headers.get(name))
        if "content" in response:
            media = response["content"][answer.headers["Content-Type"]]
            validate(closed(self.document), media["schema"], answer.get_json())
        else:
            assert answer.data == b""

    def _check_header(self, key: str, value: str | None) -> None:
        header = self.document["components"]["headers"][key]
        assert value or not header["required"], f"{self.id} did not send {key}"
        if value:
            typed = int(value) if header["schema"]["type"] == "integer" else value
            validate(self.document, header["schema"], typed)


def operations(document: Json) -> Iterator[Described]:
    """Every operation of a description."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield Described(document, path, method, operation)


def values(media: Json) -> list[Any]:
    """The examples of a media type."""
    return [example["value"] for example in media.get("examples", {}).values()]


def code_of(body: Any) -> str:
    """The code of an error's body, without a path; empty for a body that is no error."""
    code = (body or {}).get("type") or (body or {}).get("error")
    return code.rpartition("/")[2] if isinstance(code, str) else ""


def validate(document: Json, schema: Json, value: object) -> None:
    """Raises: `ValidationError` for a value that a schema of the document does not take."""
    whole = {**schema, "components": document["components"]}
    Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(value)


def closed(document: Json) -> Json:
    """The same description, whose objects have no fields but those it names."""
    copy = deepcopy(document)
    for schema in copy["components"]["schemas"].values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return copy
