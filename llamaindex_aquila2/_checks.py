"""Checks of the constructor's fields, before pydantic sees them. It knows no runtime.

pydantic would wrap our errors into its own and convert "0.5" into a number; here they leave as
themselves and nothing is converted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from aquila2_runtime import InvalidRequestError, SamplingParams
from aquila2_runtime.load_options import OPTION_NAMES, LoadOptions
from aquila2_runtime.request_options import RequestOptions
from aquila2_runtime.shown import shown
from llamaindex_aquila2._messages import plain_prompt
from llamaindex_aquila2._params import SAMPLING_FIELDS


def check_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields in the form in which they are kept.

    Args:
        given: Fields as the caller wrote them; every name is known.

    Raises:
        InvalidRequestError: A value has a wrong type or lies outside its range.
    """
    fields = dict(given)
    options = LoadOptions(**{name: fields[name] for name in OPTION_NAMES if name in fields})
    for name in OPTION_NAMES & fields.keys():
        fields[name] = getattr(options, name)
    params = SamplingParams(**{name: fields[name] for name in SAMPLING_FIELDS if name in fields})
    for name in SAMPLING_FIELDS & fields.keys():
        fields[name] = getattr(params, name)
    _check_rest(fields)
    if fields.get("messages_to_prompt") is None:
        fields["messages_to_prompt"] = plain_prompt
    return fields


def _check_rest(fields: Mapping[str, Any]) -> None:
    system_prompt = fields.get("system_prompt")
    if system_prompt is not None and not isinstance(system_prompt, str):
        _fail("system_prompt", system_prompt, "a string or None")
    for name in ("messages_to_prompt", "completion_to_prompt"):
        function = fields.get(name)
        if function is not None and not callable(function):
            _fail(name, function, "a function or None")
    chats = fields.get("is_chat_model")
    if chats is not None and not isinstance(chats, bool):
        _fail("is_chat_model", chats, "True, False or None")
    functions = fields.get("is_function_calling_model", False)
    if not isinstance(functions, bool):
        _fail("is_function_calling_model", functions, "True or False")
    RequestOptions(
        fit=fields.get("fit"), timeout=fields.get("timeout"), adapter=fields.get("adapter")
    )


def _fail(name: str, value: object, allowed: str) -> NoReturn:
    raise InvalidRequestError(
        f"{name}={shown(value)} is not valid; it must be {allowed}.", parameter=name, value=value
    )
