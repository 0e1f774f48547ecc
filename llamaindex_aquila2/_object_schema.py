"""Schema of a pydantic class, as narrow as the class itself where pydantic's is wider.

pydantic's schema of a date accepts the year 0 and the 29th of February of any year, that of a
decimal any text, and then the class refuses what its own schema accepted. It knows no model.
"""

from __future__ import annotations

from typing import Any, Final

from llama_index.core.bridge.pydantic import BaseModel
from pydantic import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from aquila2_runtime import InvalidRequestError

_YEAR: Final = r"[1-9]\d{3}"
_LEAP: Final = r"([1-9]\d(0[48]|[2468][048]|[13579][26])|([2468][048]|[13579][26])00)"
_DATE: Final = (
    rf"({_YEAR}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)"
    rf"|02-(0[1-9]|1\d|2[0-8]))|{_LEAP}-02-29)"
)
_TIME: Final = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?"
_OFFSET: Final = r"(Z|[+-]([01]\d|2[0-3]):[0-5]\d)?"
_MOST: Final = 10**15


class _Narrow(GenerateJsonSchema):
    """pydantic's generator, with patterns for what Python can hold."""

    def date_schema(self, schema: Any) -> JsonSchemaValue:
        return {"type": "string", "pattern": f"^{_DATE}$"}

    def datetime_schema(self, schema: Any) -> JsonSchemaValue:
        return {"type": "string", "pattern": f"^{_DATE}T{_TIME}{_OFFSET}$"}

    def time_schema(self, schema: Any) -> JsonSchemaValue:
        return {"type": "string", "pattern": f"^{_TIME}{_OFFSET}$"}

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


def object_schema(output_cls: type[BaseModel]) -> dict[str, Any]:
    """Return a class's schema.

    Raises:
        InvalidRequestError: It has none.
    """
    try:
        return output_cls.model_json_schema(schema_generator=_Narrow)
    except PydanticUserError as error:
        raise InvalidRequestError(
            f"{output_cls.__name__} has no JSON schema: {str(error).splitlines()[0]:.300}",
            parameter="output_cls",
            value=output_cls,
        ) from error
