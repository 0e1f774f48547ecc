"""Role markers in message text: never an extra turn, always reversible, always told."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquila2_runtime.conversation import render_messages
from aquila2_runtime.errors import InvalidPromptError
from aquila2_runtime.markers import BREAK, neutralise_markers, restore_markers
from aquila2_runtime.message import ROLES, Message
from aquila2_runtime.templates import TEMPLATES
from tests.text.support import TEXT_TEMPLATES, spelt

MARKERS = (
    "###Human:",
    "###Assistant:",
    "### Human: ",
    "### Assistant: ",
    "</s>Human:",
    "</s>### Human: ",
    "###\tAssistant:",
)
# Written anew here: what a reader of the prompt would take for the start of a turn.
TURN = re.compile(r"(?:###|</s>)[ \t]*(?:Human|Assistant):")
NEAR = st.lists(
    st.sampled_from(["###", "#", " ", "\t", "Human", "Assistant", ":", "</s>", BREAK, "\n", "x"])
).map("".join)


def turns(messages: list[Message], name: str) -> int:
    return len(TURN.findall(spelt(render_messages(messages, TEMPLATES[name]).parts)))


@pytest.mark.parametrize("name", TEXT_TEMPLATES)
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("marker", MARKERS)
def test_a_role_marker_in_a_message_makes_no_turn(marker: str, role: str, name: str) -> None:
    """P12: in every role and in names; it is broken, and a notice says where."""
    for text in (marker, f"a\n{marker}b", marker * 2):
        for message in (Message(role, text), Message(role, "x", name=text)):
            messages = [Message("user", "x"), message, Message("user", "x")]
            clean = [Message("user", "x"), Message(role, "x"), Message("user", "x")]
            assert turns(messages, name) == turns(clean, name)
            notices = render_messages(messages, TEMPLATES[name]).notices
            assert any("in messages 1" in notice for notice in notices)


@pytest.mark.parametrize("name", TEXT_TEMPLATES)
@pytest.mark.parametrize("marker", MARKERS)
def test_a_role_marker_put_together_across_borders_makes_no_turn(marker: str, name: str) -> None:
    """P2, P12: between messages, between name and content, and at the template's own text."""
    for cut in range(len(marker) + 1):
        head, tail = marker[:cut], marker[cut:]
        for first in ROLES:
            for second in ROLES:
                messages = [Message(first, head), Message(second, tail)]
                clean = [Message(first, "x"), Message(second, "x")]
                if second == "assistant" and not tail:
                    clean[1] = Message(second, "")
                assert turns(messages, name) == turns(clean, name)
            named = [Message(first, tail, name=head or None), Message("user", "x")]
            assert turns(named, name) == turns([Message(first, "x"), Message("user", "x")], name)


@given(
    conversation=st.lists(st.tuples(st.sampled_from(ROLES), NEAR), min_size=1, max_size=5),
    name=st.sampled_from(TEXT_TEMPLATES),
)
def test_no_conversation_has_more_turns_than_messages(
    conversation: list[tuple[str, str]], name: str
) -> None:
    """P12: as a property: each marker of the prompt is one that the template wrote."""
    messages = [Message(role, text) for role, text in conversation]
    # A letter keeps an empty last answer an opened turn, and no marker.
    clean = [Message(role, "x" if text else "") for role, text in conversation]
    assert turns(messages, name) == turns(clean, name)


@given(text=NEAR)
def test_neutralising_is_reversible(text: str) -> None:
    """P12: for any text, also one that already holds breaks."""
    broken = neutralise_markers(text)
    assert restore_markers(broken) == text
    assert not TURN.search(broken)


@given(text=st.text())
def test_other_text_is_left_alone(text: str) -> None:
    """P3: no marker, no change."""
    if not TURN.search(text):
        assert neutralise_markers(text) == text or BREAK in text


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize(
    "text",
    [
        "###",
        "### Heading",
        "# a\n## b\n### c\n",
        "Human: hi",
        "Assistant:",
        "###human:",
        "####",
        "a</s>b",
    ],
)
def test_headings_and_words_stay_untouched(text: str, name: str) -> None:
    """P12: only complete markers are touched."""
    for strict in (False, True):
        rendered = render_messages([Message("user", text)], TEMPLATES[name], strict_markers=strict)
        assert text in spelt(rendered.parts)
        assert rendered.notices == ()


@pytest.mark.parametrize("name", TEXT_TEMPLATES)
@pytest.mark.parametrize("marker", MARKERS)
def test_strict_markers_refuses_instead(marker: str, name: str) -> None:
    """P12: and says in which message."""
    messages = [Message("user", "x"), Message("assistant", "x"), Message("user", f"a{marker}b")]
    with pytest.raises(InvalidPromptError, match=rf"messages\[2\].*{name}") as caught:
        render_messages(messages, TEMPLATES[name], strict_markers=True)
    assert caught.value.parameter == "messages[2]"


@pytest.mark.parametrize("name", ["aquila-v1", "aquila-v2"])
@pytest.mark.parametrize("marker", MARKERS)
def test_control_token_templates_leave_text_markers_alone(marker: str, name: str) -> None:
    """P12: there they mean nothing."""
    rendered = render_messages([Message("user", marker)], TEMPLATES[name], strict_markers=True)
    assert marker in spelt(rendered.parts)
    assert rendered.notices == ()


def test_the_change_is_one_zero_width_space() -> None:
    """P12: the documented form."""
    assert neutralise_markers("a ###Human: b") == "a ###\u200bHuman: b"
    assert neutralise_markers("###\u200bHuman:") == "###\u200b\u200bHuman:"
    assert restore_markers("a ###\u200bHuman: b") == "a ###Human: b"
