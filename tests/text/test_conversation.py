"""Messages and unusual conversations: each has its documented prompt, or a named error."""

from __future__ import annotations

import pytest

from aquila2_runtime.conversation import render_messages
from aquila2_runtime.errors import InvalidPromptError, TemplateError
from aquila2_runtime.message import Message
from aquila2_runtime.templates import DEFAULT_SYSTEM, TEMPLATES, get_template
from tests.text.support import control_tokens, spelt

S = DEFAULT_SYSTEM
U1, U2 = Message("user", "U1"), Message("user", "U2")
A1 = Message("assistant", "A1")
NO_TEXT = Message("assistant", "")
RULES = Message("system", "R")

CASES = {
    "system only": [RULES],
    "assistant first": [A1, U1],
    "two users": [U1, U2],
    "two assistants": [U1, A1, A1, U2],
    "to be continued": [U1, A1],
    "empty to be continued": [U1, NO_TEXT],
    "empty texts": [Message("user", ""), NO_TEXT, U2],
    "tool": [U1, A1, Message("tool", "42", name="calc")],
    "names": [Message("user", "U1", name="Ann")],
    "two systems": [RULES, Message("system", "Q"), U1],
}
EXPECTED = {
    "aquila-chat": {
        "system only": "R###Assistant:",
        "assistant first": f"{S}###Assistant: A1###Human: U1###Assistant:",
        "two users": f"{S}###Human: U1###Human: U2###Assistant:",
        "two assistants": f"{S}###Human: U1###Assistant: A1###Assistant: A1###Human: U2"
        "###Assistant:",
        "to be continued": f"{S}###Human: U1###Assistant: A1",
        "empty to be continued": f"{S}###Human: U1###Assistant:",
        "empty texts": f"{S}###Human: ###Assistant: ###Human: U2###Assistant:",
        "tool": f"{S}###Human: U1###Assistant: A1###Human: Tool result (calc):\n42###Assistant:",
        "names": f"{S}###Human: Ann: U1###Assistant:",
        "two systems": "R\n\nQ###Human: U1###Assistant:",
    },
    "aquila": {
        "system only": "R###Assistant:",
        "assistant first": f"{S}###Assistant: A1</s>Human: U1###Assistant:",
        "two users": f"{S}###Human: U1###Human: U2###Assistant:",
        "two assistants": f"{S}###Human: U1###Assistant: A1</s>Assistant: A1</s>Human: U2"
        "###Assistant:",
        "to be continued": f"{S}###Human: U1###Assistant: A1",
        "empty to be continued": f"{S}###Human: U1###Assistant:",
        "empty texts": f"{S}###Human: ###Assistant: </s>Human: U2###Assistant:",
        "tool": f"{S}###Human: U1###Assistant: A1</s>Human: Tool result (calc):\n42###Assistant:",
        "names": f"{S}###Human: Ann: U1###Assistant:",
        "two systems": "R\n\nQ###Human: U1###Assistant:",
    },
    "aquila-legacy": {
        "system only": "R\n\n### Assistant: ",
        "assistant first": f"{S}\n\n### Assistant: A1</s>### Human: U1\n### Assistant: ",
        "two users": f"{S}\n\n### Human: U1\n### Human: U2\n### Assistant: ",
        "two assistants": f"{S}\n\n### Human: U1\n### Assistant: A1</s>### Assistant: A1</s>"
        "### Human: U2\n### Assistant: ",
        "to be continued": f"{S}\n\n### Human: U1\n### Assistant: A1",
        "empty to be continued": f"{S}\n\n### Human: U1\n### Assistant: ",
        "empty texts": f"{S}\n\n### Human: \n### Assistant: </s>### Human: U2\n### Assistant: ",
        "tool": f"{S}\n\n### Human: U1\n### Assistant: A1</s>### Human: Tool result (calc):\n42\n"
        "### Assistant: ",
        "names": f"{S}\n\n### Human: Ann: U1\n### Assistant: ",
        "two systems": "R\n\nQ\n\n### Human: U1\n### Assistant: ",
    },
    "aquila-v1": {
        "system only": "R\n\n<E>",
        "assistant first": "<E>A1</s><S>U1<E>",
        "two users": "<S>U1<S>U2<E>",
        "two assistants": "<S>U1<E>A1</s><E>A1</s><S>U2<E>",
        "to be continued": "<S>U1<E>A1",
        "empty to be continued": "<S>U1<E>",
        "empty texts": "<S><E></s><S>U2<E>",
        "tool": "<S>U1<E>A1</s><S>Tool result (calc):\n42<E>",
        "names": "<S>Ann: U1<E>",
        "two systems": "R\n\nQ\n\n<S>U1<E>",
    },
}


def v2(case: str, text: str) -> str:
    """aquila-v2 is aquila-v1 with the default system text."""
    return text if "system" in case else f"{S}\n\n{text}"


EXPECTED["aquila-v2"] = {case: v2(case, text) for case, text in EXPECTED["aquila-v1"].items()}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", TEMPLATES)
def test_unusual_conversations_have_their_documented_prompt(name: str, case: str) -> None:
    """T3: system only, assistant first, two in a row, to be continued, tools, names, no text."""
    rendered = render_messages(CASES[case], TEMPLATES[name])
    short = spelt(rendered.parts)
    short = short.replace("<|startofpiece|>", "<S>").replace("<|endofpiece|>", "<E>")
    assert short == EXPECTED[name][case]
    assert rendered.notices == ()


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_late_system_message_moves_to_the_front_and_is_reported(name: str) -> None:
    """T3: several are joined by a blank line."""
    rendered = render_messages([RULES, U1, A1, Message("system", "Q"), U2], TEMPLATES[name])
    assert spelt(rendered.parts).startswith("R\n\nQ")
    assert rendered.notices == ("The system message 3 was moved to the front of the prompt.",)


def test_an_empty_system_message_replaces_the_default_text() -> None:
    """T3: what follows a system text stays; aquila-v1 has nothing to replace."""
    none = [Message("system", ""), U1]
    assert spelt(render_messages(none, TEMPLATES["aquila"]).parts).startswith("###Human: U1")
    assert spelt(render_messages(none, TEMPLATES["aquila-legacy"]).parts).startswith("\n\n### H")
    assert spelt(render_messages(none, TEMPLATES["aquila-v1"]).parts).startswith("<|start")


def test_a_tool_without_a_name_is_only_called_a_tool() -> None:
    """T3: the documented form."""
    parts = render_messages([Message("tool", "42")], TEMPLATES["aquila-v1"]).parts
    assert spelt(parts) == "<|startofpiece|>Tool result:\n42<|endofpiece|>"


@pytest.mark.parametrize("role", ["", "System", "human", "bot", None, 5, "user ", ["user"]])
def test_an_unknown_role_is_refused_with_the_choices(role: object) -> None:
    """P10: no guess."""
    with pytest.raises(InvalidPromptError, match="'system', 'user', 'assistant', 'tool'"):
        Message(role, "x")  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [None, 5, b"x", ["x"], {"type": "text"}])
def test_content_and_name_that_are_no_text_are_refused(content: object) -> None:
    """P10: None and lists among them."""
    with pytest.raises(InvalidPromptError, match="content must be a string"):
        Message("user", content)  # type: ignore[arg-type]
    if content is not None:
        with pytest.raises(InvalidPromptError, match="name must be a string"):
            Message("user", "x", name=content)  # type: ignore[arg-type]


def test_a_lone_surrogate_in_a_message_is_refused_with_its_position() -> None:
    """P5: counted in the message's own text; the text itself is not in the error."""
    with pytest.raises(InvalidPromptError, match=r"content has a lone surrogate.*position 6") as it:
        Message("user", "secret\ud800")
    assert it.value.value == 6
    assert "secret" not in str(it.value)
    with pytest.raises(InvalidPromptError, match="name has a lone surrogate"):
        Message("user", "x", name="\udfff")
    assert "UTF-16" in str(it.value)
    with pytest.raises(InvalidPromptError, match="the byte 0xE5") as it:
        Message("user", b"\xe5".decode("ascii", "surrogateescape"))
    assert "UTF-16" not in str(it.value)


@pytest.mark.parametrize("messages", [[], (), "text", U1, None, 5, [{"role": "user"}], ["x"], {}])
def test_what_is_no_list_of_messages_is_refused(messages: object) -> None:
    """P10: never an IndexError or AttributeError."""
    for template in TEMPLATES.values():
        with pytest.raises(InvalidPromptError, match="messages"):
            render_messages(messages, template)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", [" ", "\n\n", "\t", "\u3000"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_white_space_is_text(name: str, text: str) -> None:
    """P10: nothing is stripped."""
    with_text = spelt(render_messages([Message("user", f"a{text}b")], TEMPLATES[name]).parts)
    only = spelt(render_messages([Message("user", text)], TEMPLATES[name]).parts)
    assert only == with_text.replace(f"a{text}b", text)


@pytest.mark.parametrize("name", TEMPLATES)
def test_ten_thousand_messages_and_a_megabyte_render(name: str) -> None:
    """P10: in linear time; the test would not end otherwise."""
    template = TEMPLATES[name]
    long = [U1, A1] * 5000
    tokens = control_tokens(render_messages(long, template).parts)
    assert tokens.count("</s>") == (0 if name == "aquila-chat" else 4999)
    huge = "### Human: ###x \u200b" * 60_000
    assert len(spelt(render_messages([Message("user", huge)], template).parts)) > len(huge)


@pytest.mark.parametrize("name", TEMPLATES)
def test_messages_are_not_changed_by_rendering(name: str) -> None:
    """T3: the caller's list stays as it was."""
    messages = [U1, A1, RULES, U2]
    before = list(messages)
    first = render_messages(messages, TEMPLATES[name])
    assert messages == before
    assert render_messages(messages, TEMPLATES[name]) == first


@pytest.mark.parametrize("name", ["aquila-v3", "AQUILA", "", "aquilav1", None, 5])
def test_an_unknown_template_is_refused_with_the_choices(name: object) -> None:
    """T2: no guess from a name."""
    with pytest.raises(TemplateError) as caught:
        get_template(name)  # type: ignore[arg-type]
    assert all(known in str(caught.value) for known in TEMPLATES)


def test_templates_are_found_by_name() -> None:
    """T2: all five."""
    assert [get_template(name).name for name in TEMPLATES] == [
        "aquila-chat",
        "aquila",
        "aquila-legacy",
        "aquila-v1",
        "aquila-v2",
    ]
