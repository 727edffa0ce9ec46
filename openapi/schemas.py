"""JSON Schema of the models, as people read it: no titles of fields, no `null` where none can be."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

_REF = "#/components/schemas/"


class _Schemas(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """A default of `null` is what is meant by leaving out, and needs no saying."""
        described = super().default_schema(schema)
        return {name: value for name, value in described.items() if name != "default" or value is not None}

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """In one type list where that says the same as `anyOf`."""
        described = super().nullable_schema(schema)
        match described:
            case {"anyOf": [{"type": str() as kind} as inner, {"type": "null"}]} if not {"enum", "const"} & set(inner):
                return {**inner, "type": [kind, "null"]}
        return described

    def model_field_schema(self, schema: core_schema.ModelField) -> JsonSchemaValue:
        """What is left out of an answer where it is null is never null there."""
        described = super().model_field_schema(schema)
        left_out = self.mode == "serialization" and schema.get("serialization_exclude_if")
        return never_null(described) if left_out else described


def never_null(schema: JsonSchemaValue) -> JsonSchemaValue:
    """The same without `null`."""
    match schema:
        case {"anyOf": [inner, {"type": "null"}], **rest}:
            return {**inner, **rest}
        case {"type": [kind, "null"], **rest}:
            return {"type": kind, **rest}
    return schema


class Models:
    """The schemas of models and of all that they hold, by name."""

    def __init__(self, *, requests: Iterable[type[BaseModel]], answers: Iterable[type[BaseModel]]) -> None:
        modes: Sequence[tuple[type[BaseModel], JsonSchemaMode]] = [
            *((model, "validation") for model in dict.fromkeys(requests)),
            *((model, "serialization") for model in dict.fromkeys(answers)),
        ]
        references, described = models_json_schema(modes, ref_template=_REF + "{model}", schema_generator=_Schemas)
        self._schemas = dict(sorted(described["$defs"].items()))
        self._names = {model: reference["$ref"].removeprefix(_REF) for (model, _), reference in references.items()}

    def schema(self, model: type[BaseModel]) -> JsonSchemaValue:
        schema: JsonSchemaValue = self._schemas[self._names[model]]
        return schema

    def reference(self, model: type[BaseModel]) -> dict[str, str]:
        return reference(self._names[model])

    def without(self, models: Container[type[BaseModel] | None]) -> dict[str, JsonSchemaValue]:
        """All schemas but those of `models`."""
        left_out = {name for model, name in self._names.items() if model in models}
        return {name: schema for name, schema in self._schemas.items() if name not in left_out}


def reference(name: str) -> dict[str, str]:
    """The reference to a schema that the description has under this name."""
    return {"$ref": _REF + name}
