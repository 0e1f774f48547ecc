"""The claim on a runtime that a model's fields ask for, and what they cannot change. It loads none.

It brings the fields that are load options into their stored form and knows no others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from aquila2_runtime import InvalidLoadOptionError, RuntimeLease
from aquila2_runtime.load_options import OPTION_NAMES, LoadOptions
from aquila2_runtime.server_address import KEY_VARIABLE
from aquila2_runtime.shown import shown

if TYPE_CHECKING:
    from aquila2_runtime.runtime import Aquila2Runtime

LOAD_FIELDS: Final = OPTION_NAMES - {"progress"}
_CONSTRUCT: Final = "Construct a model with model= and without runtime= instead."


def lease_for(given: dict[str, Any], progress: Callable[..., None] | None) -> RuntimeLease:
    """Return the lease that a constructor's keywords ask for; those are brought into their form.

    Raises:
        InvalidLoadOptionError: A value is wrong, or says of a loaded runtime what it is not.
    """
    runtime = given.get("runtime")
    if runtime is not None:
        return _wrapping(runtime, given)
    if not given.get("model"):
        given["model"] = os.environ.get("AQUILA2_MODEL", "")
    options = {name: given[name] for name in LOAD_FIELDS if name in given}
    lease = RuntimeLease(**options, progress=progress)
    for name in ("model", "cache_dir"):
        if given.get(name) is not None:
            given[name] = os.fspath(given[name])
    if lease.options is not None and given.get("adapters") is not None:
        given["adapters"] = dict(lease.options.adapter_pairs)
    if lease.options is not None and given.get("base_url") is not None:
        given["base_url"] = lease.options.base_url
    return lease


def refuse_key(given: Mapping[str, Any]) -> None:
    """Refuse a key that would not reach the server it is meant for.

    Raises:
        InvalidLoadOptionError: There is one, and a server answers.
    """
    if given.get("engine") == "openai" and given.get("api_key") is not None:
        raise InvalidLoadOptionError(
            "api_key is kept out of models, which are copied, pickled and traced.",
            parameter="api_key",
            hint=f"Set the environment variable {KEY_VARIABLE} to the server's key.",
        )


def refuse_another(name: str, value: object, loaded: object, *, wrapped: bool) -> None:
    """Refuse to assign what is loaded.

    Args:
        name: Of the field.
        value: What is assigned.
        loaded: What the field says.
        wrapped: Whether the model is one over a runtime that its caller loaded.

    Raises:
        InvalidLoadOptionError: The value is another.
    """
    if value is not loaded and (name == "runtime" or value != loaded):
        copied = f"model_copy(update={{{name!r}: ...}}) is a model of its own."
        raise InvalidLoadOptionError(
            f"{name} says what is loaded and cannot change.",
            parameter=name,
            value=value,
            hint=_CONSTRUCT if wrapped else copied,
        )


def _wrapping(runtime: Aquila2Runtime, given: dict[str, Any]) -> RuntimeLease:
    """A lease on a loaded runtime, which options beside it can name but not change."""
    from aquila2_runtime.runtime import Aquila2Runtime

    if not isinstance(runtime, Aquila2Runtime):
        raise InvalidLoadOptionError(
            f"runtime={shown(runtime)} is not valid; it must be a loaded Aquila2Runtime.",
            parameter="runtime",
            value=runtime,
        )
    info = runtime.info
    given["model"] = given.get("model") or info.model
    options = LoadOptions(**{name: given[name] for name in LOAD_FIELDS if name in given})
    for name, value in options.to_kwargs().items():
        if value != (found := getattr(info, name, None)):
            is_so = "" if found is None else f", and its {name} is {shown(found)}"
            raise InvalidLoadOptionError(
                f"{name}={shown(value)} is not valid; the runtime is loaded{is_so}.",
                parameter=name,
                value=value,
                hint=_CONSTRUCT,
            )
    return RuntimeLease.of(runtime)
