"""Schema of a pydantic class that answers are held to. It knows no model.

The schema is the runtime's: as narrow as the class, where pydantic's own is wider.
"""

from __future__ import annotations

from typing import Any

from llama_index.core.bridge.pydantic import BaseModel

from aquila2_runtime import InvalidConstraintError, InvalidRequestError
from aquila2_runtime.grammar.class_schema import class_schema


def object_schema(output_cls: type[BaseModel]) -> dict[str, Any]:
    """Return a class's schema.

    Raises:
        InvalidRequestError: It has none.
    """
    try:
        return class_schema(output_cls)
    except InvalidConstraintError as error:
        raise InvalidRequestError(
            error.message, parameter="output_cls", value=output_cls
        ) from error
