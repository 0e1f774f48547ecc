"""Hiding names and tokens in what ``doctor`` prints. It knows nothing of what is printed."""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_HOMES: Final = re.compile(r"(?i)([/\\](?:home|users)[/\\])[^/\\\s:'\"]+")
_CREDENTIALS: Final = re.compile(r"(?<=://)[^/@\s]+@")
_TOKENS: Final = re.compile(r"\b(?:hf|api|ms|sk|ghp|lsv2)[_-][A-Za-z0-9_-]{8,}")
_SECRET_NAMES: Final = re.compile(r"(?i)token|secret|password|api_?key")
_HIDDEN: Final = "<hidden>"


class Redactor:
    """Replaces the home directory, user names, tokens and secrets of the environment.

    Args:
        environment: Variables whose values may be secrets.
        home: The home directory; shown as ``~``.
        user: The user's name; a path component that equals it shows as ``<user>``.
    """

    def __init__(self, environment: Mapping[str, str], home: str, user: str) -> None:
        self._secrets = [
            value
            for name, value in environment.items()
            if _SECRET_NAMES.search(name) and len(value) >= 6
        ]
        # A home of "/" would turn every path into "~".
        self._home = home if len(home) > 1 else ""
        self._user = re.compile(rf"(?<=[/\\]){re.escape(user)}(?=[/\\\s:'\"]|$)") if user else None

    @classmethod
    def of_this_process(cls) -> Redactor:
        """Take environment, home and user from the system."""
        try:
            user = getpass.getuser()
        except (KeyError, OSError):
            user = ""
        return cls(os.environ, str(Path.home()), user)

    def text(self, text: str) -> str:
        """Return a text that may be shown to others."""
        for secret in self._secrets:
            text = text.replace(secret, _HIDDEN)
        text = _CREDENTIALS.sub(f"{_HIDDEN}@", text)
        text = _TOKENS.sub(_HIDDEN, text)
        if self._home:
            text = re.sub(rf"{re.escape(self._home)}(?=[/\\\s:'\"]|$)", "~", text)
        text = _HOMES.sub(r"\1<user>", text)
        return text if self._user is None else self._user.sub("<user>", text)

    def all(self, value: Any) -> Any:
        """Redact every string inside dicts and lists."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.all(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.all(item) for item in value]
        return value
