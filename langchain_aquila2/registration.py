"""register: teaches LangChain's ``init_chat_model`` the provider "aquila2", when asked to.

LangChain has no public way to add a provider, so this writes into a private table, and checks that
the table still has the form it knows. Nothing is registered by importing the package.
"""

from __future__ import annotations

from typing import Any, Final

from aquila2_runtime import MissingDependencyError, RuntimeLease

PROVIDER: Final = "aquila2"
# The claim of the model made last. Its own would be the only one, and the weights would go with it.
_kept: Final[list[RuntimeLease]] = []


def register() -> None:
    """Let ``init_chat_model("aquila2:aquila2-demo")`` and its like make a ``ChatAquila2``.

    Also where LangChain takes a model by name, as ``create_agent`` does. Idempotent.

    Where fields are configurable, LangChain makes a model for every call. So the weights of the one
    made last stay loaded until one of other load options is made, or that one is closed.

    Raises:
        MissingDependencyError: langchain is not installed, or keeps its providers in another form
            than the versions this was made for; pass a ``ChatAquila2`` instead of a name then.
    """
    try:
        from langchain.chat_models import base
    except ImportError as error:
        raise MissingDependencyError(
            "init_chat_model is a part of langchain, which is not installed.",
            parameter="langchain",
            hint="pip install langchain",
        ) from error
    table = getattr(base, "_BUILTIN_PROVIDERS", None)
    entry = ("langchain_aquila2", "ChatAquila2", _make)
    if not isinstance(table, dict) or any(
        not isinstance(known, tuple) or [*map(type, known[:2])] != [str, str] or len(known) != 3
        for known in table.values()
    ):
        raise MissingDependencyError(
            "This version of langchain keeps its providers in a form that is not known here.",
            parameter="langchain",
            hint='Pass ChatAquila2(model="...") instead of a name.',
        )
    table.setdefault(PROVIDER, entry)


def _make(cls: Any, **fields: Any) -> Any:
    model = cls(**fields)  # LangChain gives the class by this keyword
    # The claim before goes once this one is there: of equal options they share their runtime, and
    # of others the old weights are gone before the new ones are read.
    _kept[:] = [model._lease]
    return model
