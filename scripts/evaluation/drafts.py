"""The drafts to be refined: NDJSON, one object a line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError


def _said(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "must not be blank")
    return text


class Draft(BaseModel):
    """One line. `source` is what the table calls it; other fields are passed over."""

    model_config = ConfigDict(strict=True, frozen=True)
    prompt: Annotated[str, AfterValidator(_said)]
    source: str | None = None
    instructions: str | None = None


def read_drafts(lines: Iterable[str]) -> list[Draft]:
    """Every draft; blank lines are left out. Raises: `ValueError` that names the first line which is wrong."""
    drafts = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                drafts.append(Draft.model_validate_json(line))
            except ValidationError as error:
                problem = error.errors(include_url=False, include_input=False)[0]
                where = ".".join(map(str, problem["loc"]))
                raise ValueError(f"line {number}: {where}{': ' * bool(where)}{problem['msg']}") from None
    return drafts
