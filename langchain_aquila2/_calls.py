"""A call's words beside an object's fields: its model, stops and flags, and its cache key.

It sends nothing and knows no defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aquila2_runtime import (
    InvalidLoadOptionError,
    InvalidRequestError,
    InvalidSamplingParamsError,
)
from aquila2_runtime.load_options import LoadOptions
from aquila2_runtime.shown import shown
from langchain_aquila2._formats import json_schema_of
from langchain_aquila2._tools import openai_tools


def named_model(model: object, model_name: object) -> str | None:
    """Return the model named by either word; None where neither is said.

    Raises:
        InvalidLoadOptionError: The two differ, or what they say is no model's name.
    """
    if model is not None and model_name is not None and model != model_name:
        raise InvalidLoadOptionError(
            "model and model_name are the same option.", parameter="model_name", value=model_name
        )
    said = model_name if model is None else model
    return None if said is None else LoadOptions(model=said).model  # type: ignore[arg-type]


def merged_stops(own: object, call: object) -> list[str]:
    """Return an object's stop strings, then a call's.

    Raises:
        InvalidSamplingParamsError: One of the two is neither a string nor a list.
    """
    merged: list[str] = []
    for stops in (own, call):
        if isinstance(stops, str):
            merged.append(stops)
        elif isinstance(stops, (list, tuple)):
            merged.extend(stops)
        elif stops is not None:
            raise InvalidSamplingParamsError(
                f"stop={shown(stops)} is not valid; it must be a string or a list of strings.",
                parameter="stop",
                value=stops,
            )
    return merged


def check_flag(name: str, value: object) -> bool:
    """Return a value that is True or False.

    Raises:
        InvalidRequestError: It is neither.
    """
    if not isinstance(value, bool):
        raise InvalidRequestError(
            f"{name}={shown(value)} is not valid; it must be True or False.",
            parameter=name,
            value=value,
        )
    return value


def spelled_out(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call's keywords in a form whose text says all of them, as keys of caches must.

    The text of a class or a function is its name alone, and two of one name are two questions.

    Raises:
        InvalidPromptError: A tool is none.
        InvalidConstraintError: A class has no schema.
    """
    told = dict(keywords)
    if told.get("tools"):
        told["tools"] = openai_tools(told["tools"])
    form = told.get("response_format")
    if form is not None and not isinstance(form, Mapping):
        told["response_format"] = json_schema_of(form)
    return told
