"""Text is text: whatever it spells, and wherever it stands, no control id comes of it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from aquila2_runtime.conversation import render_messages
from aquila2_runtime.message import ROLES, Message
from aquila2_runtime.templates import TEMPLATES, Template, Text
from aquila2_runtime.tokenizer import Aquila2Tokenizer
from tests.text.support import SPECIALS, control_tokens, controls_in, spelt

ALL_TEMPLATES = list(TEMPLATES.values())


def ids_and_own(
    messages: list[Message], template: Template, tokenizer: Aquila2Tokenizer
) -> tuple[list[int], list[int]]:
    """Control ids of a prompt, and those that the template placed."""
    parts = render_messages(messages, template).parts
    own = [tokenizer.control_ids[token] for token in control_tokens(parts)]
    return controls_in(tokenizer.encode_parts(parts), tokenizer), own


@pytest.mark.parametrize("template", ALL_TEMPLATES, ids=lambda template: template.name)
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("special", SPECIALS)
def test_a_special_spelling_in_any_role_and_field_adds_no_control_id(
    special: str, role: str, template: Template, tokenizer: Aquila2Tokenizer
) -> None:
    """P1: the control ids of the prompt are the template's own, one for one."""
    texts = (special, f"a{special}b", f" {special} ", special * 3, f"\n{special}\n")
    plain = [Message("user", "x"), Message("assistant", "x"), Message("user", "x")]
    for text in texts:
        for message in (Message(role, text), Message(role, "x", name=text)):
            clean = [*plain[:2], Message(role, "x"), plain[2]]
            found, own = ids_and_own([*plain[:2], message, plain[2]], template, tokenizer)
            _, expected = ids_and_own(clean, template, tokenizer)
            assert found == own == expected


@pytest.mark.parametrize("template", ALL_TEMPLATES, ids=lambda template: template.name)
@pytest.mark.parametrize("special", SPECIALS)
def test_a_special_spelling_split_between_messages_adds_no_control_id(
    special: str, template: Template, tokenizer: Aquila2Tokenizer
) -> None:
    """P2: also where it is split between two messages, at every place and for all roles."""
    for cut in range(len(special) + 1):
        head, tail = special[:cut], special[cut:]
        for first, second in itertools.product(ROLES, ROLES):
            messages = [Message(first, head), Message(second, tail), Message("user", "x")]
            found, own = ids_and_own(messages, template, tokenizer)
            clean = [Message(first, "x"), Message(second, "x"), Message("user", "x")]
            _, expected = ids_and_own(clean, template, tokenizer)
            assert found == own == expected


@pytest.mark.parametrize("special", SPECIALS)
def test_a_special_spelling_split_between_parts_adds_no_control_id(
    special: str, tokenizer: Aquila2Tokenizer
) -> None:
    """P2: also where neighbouring text parts are joined."""
    for cut in range(len(special) + 1):
        parts = [Text(special[:cut]), Text(special[cut:])]
        assert controls_in(tokenizer.encode_parts(parts), tokenizer) == []
        assert tokenizer.decode(tokenizer.encode_parts(parts)) == special


def test_the_reference_does_turn_these_spellings_into_control_ids(
    tokenizer: Aquila2Tokenizer, reference: Tokenizer
) -> None:
    """P1: what the tests above guard against is real."""
    for special in SPECIALS:
        assert reference.encode(special).ids == [tokenizer.control_ids[special]]


NEAR = st.lists(st.sampled_from([*SPECIALS, "a", " ", "<|", "]"])).map("".join)


@given(
    turns=st.lists(st.tuples(st.sampled_from(ROLES), NEAR), min_size=1, max_size=6),
    template=st.sampled_from(ALL_TEMPLATES),
)
def test_conversations_of_special_spellings_add_no_control_id(
    turns: list[tuple[str, str]], template: Template, small: Aquila2Tokenizer
) -> None:
    """P1: as a property, over whole conversations."""
    messages = [Message(role, text) for role, text in turns]
    found, own = ids_and_own(messages, template, small)
    assert found == own


@given(text=st.text(alphabet=st.sampled_from("<|endoftxpic>/s[]MASKgCLDWNG "), max_size=60))
def test_no_text_encodes_to_a_control_id(text: str, small: Aquila2Tokenizer) -> None:
    """P1: as a property, over text near the special spellings."""
    assert controls_in(small.encode_ordinary(text), small) == []


@pytest.mark.parametrize("template", ALL_TEMPLATES, ids=lambda template: template.name)
@pytest.mark.parametrize(
    "text", ["{{7*7}}", "{% for x in y %}{% endfor %}", "{x.__class__}", "%s %(a)s", "$HOME ${x}"]
)
def test_nothing_in_a_message_is_formatted(text: str, template: Template) -> None:
    """P14: template languages and format fields appear literally."""
    for role in ROLES:
        parts = render_messages([Message(role, text), Message("user", "x")], template).parts
        assert text in spelt(parts)
