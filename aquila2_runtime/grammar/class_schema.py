"""Schema of a pydantic class, as narrow as the class itself where pydantic's is wider.

pydantic's schema of a decimal accepts any text, that of a web address any address, that of a date
without a time zone one with it, and then the class refuses what its own schema accepted. What
``formats`` knows is narrowed for every schema; this adds what only the class says. It compiles
nothing and knows no model. Importing it imports pydantic.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from aquila2_runtime.errors import InvalidConstraintError
from aquila2_runtime.grammar.formats import DATE, OFFSET, TIME, url_pattern
from aquila2_runtime.shown import one_line

_MOST: Final = 10**15
# Whether a time zone must stand behind a time, by the class's own word for it.
_ZONES: Final = {"aware": OFFSET, "naive": "", None: f"{OFFSET}?"}


class _Narrow(GenerateJsonSchema):
    """pydantic's generator, with patterns for what Python can hold."""

    def datetime_schema(self, schema: Any) -> JsonSchemaValue:
        return _string(f"{DATE}T{TIME}{_zone(schema)}")

    def time_schema(self, schema: Any) -> JsonSchemaValue:
        return _string(f"{TIME}{_zone(schema)}")

    def url_schema(self, schema: Any) -> JsonSchemaValue:
        schemes = schema.get("allowed_schemes")
        return _string(url_pattern(schemes)) if schemes else super().url_schema(schema)

    def decimal_schema(self, schema: Any) -> JsonSchemaValue:
        wide = super().decimal_schema(schema)
        choices = wide.get("anyOf", [wide])
        number = next((one for one in choices if one.get("type") == "number"), None)
        if number is None:
            return wide
        # Read from JSON it comes by way of a float, and none that is infinite is accepted.
        bounds = {"minimum": -_MOST, "maximum": _MOST}
        if "exclusiveMinimum" in number:
            del bounds["minimum"]
        if "exclusiveMaximum" in number:
            del bounds["maximum"]
        return {**bounds, **number}


def class_schema(cls: type[BaseModel]) -> dict[str, Any]:
    """Return a class's schema.

    Args:
        cls: A pydantic class.

    Raises:
        InvalidConstraintError: It has none.
    """
    try:
        return cls.model_json_schema(schema_generator=_Narrow)
    except PydanticUserError as error:
        raise InvalidConstraintError(
            f"{cls.__name__} has no JSON schema: {one_line(error)}",
            parameter="schema",
            value=cls,
        ) from error


def _zone(schema: Any) -> str:
    return _ZONES.get(schema.get("tz_constraint"), OFFSET)


def _string(pattern: str) -> JsonSchemaValue:
    return {"type": "string", "pattern": f"^({pattern})$"}
