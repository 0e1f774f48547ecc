"""Hiding names and tokens in a report made for strangers."""

from __future__ import annotations

import pytest

from aquila2_runtime.cli.redact import Redactor

SECRET = "hf_" + "AbCdEfGh" * 4
CASES = {
    "home": ("/home/wang/models/x", "~/models/x"),
    "home alone": ("in /home/wang", "in ~"),
    "another home": ("/home/li/models", "/home/<user>/models"),
    "mac": ("/Users/anna/models", "/Users/<user>/models"),
    "windows": (r"C:\Users\Anna\models", r"C:\Users\<user>\models"),
    "user elsewhere": ("/data/wang/models", "/data/<user>/models"),
    "a longer name": ("/data/wangfang/models", "/data/wangfang/models"),
    "token": (f"token {SECRET}", "token <hidden>"),
    "credentials": ("https://me:pw123@mirror.example/x", "https://<hidden>@mirror.example/x"),
    "value of a secret": ("said correct-horse", "said <hidden>"),
    "nothing": ("torch 2.13.0", "torch 2.13.0"),
}


@pytest.mark.parametrize(("text", "shown"), CASES.values(), ids=CASES)
def test_names_and_tokens_are_hidden(text: str, shown: str) -> None:
    """W6: H7 as well."""
    environment = {"MY_API_KEY": "correct-horse", "SHELL": "/bin/sh", "PIN_TOKEN": "1"}
    assert Redactor(environment, "/home/wang", "wang").text(text) == shown


def test_every_string_of_a_report_is_hidden() -> None:
    redact = Redactor({}, "/home/wang", "wang")
    assert redact.all({"a": ["/home/wang/x", 3], "b": None}) == {"a": ["~/x", 3], "b": None}
