"""Prompts equal the reference's, string for string and id for id."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from aquila2_runtime.conversation import render_messages
from aquila2_runtime.message import Message
from aquila2_runtime.templates import DEFAULT_SYSTEM, TEMPLATES, Control, Template, Text
from aquila2_runtime.tokenizer import Aquila2Tokenizer
from tests.text.support import ONE_TURN, random_conversation, spelt

ALL_TEMPLATES = list(TEMPLATES.values())
S = DEFAULT_SYSTEM
THREE_PIECES = (
    "<|startofpiece|>U1<|endofpiece|>A1</s><|startofpiece|>U2<|endofpiece|>A2</s>"
    "<|startofpiece|>U3<|endofpiece|>"
)
THREE_TURNS = {
    "aquila-chat": f"{S}###Human: U1###Assistant: A1###Human: U2###Assistant: A2"
    "###Human: U3###Assistant:",
    "aquila": f"{S}###Human: U1###Assistant: A1</s>Human: U2###Assistant: A2</s>"
    "Human: U3###Assistant:",
    "aquila-legacy": f"{S}\n\n### Human: U1\n### Assistant: A1</s>### Human: U2\n"
    "### Assistant: A2</s>### Human: U3\n### Assistant: ",
    "aquila-v1": THREE_PIECES,
    "aquila-v2": f"{S}\n\n{THREE_PIECES}",
}


@pytest.mark.parametrize("template", ALL_TEMPLATES, ids=lambda template: template.name)
def test_prompts_equal_the_released_strings(template: Template) -> None:
    """T1: one turn and three turns, as the released conversation code writes them."""
    user = [Message("user", f"U{turn}") for turn in (1, 2, 3)]
    assistant = [Message("assistant", f"A{turn}") for turn in (1, 2)]
    three = [user[0], assistant[0], user[1], assistant[1], user[2]]
    assert spelt(render_messages(user[:1], template).parts) == ONE_TURN[template.name]
    assert spelt(render_messages(three, template).parts) == THREE_TURNS[template.name]


def test_prompts_and_ids_equal_the_goldens(shared_data: Path, real: Aquila2Tokenizer) -> None:
    """T1: string and ids of every golden conversation."""
    goldens = json.loads((shared_data / "goldens" / "templates.json").read_text(encoding="utf-8"))
    assert goldens
    for golden in goldens:
        template = TEMPLATES[golden["template"]]
        messages = [Message(item["role"], item["content"]) for item in golden["messages"]]
        rendered = render_messages(messages, template)
        assert spelt(rendered.parts) == golden["prompt"]
        assert real.encode_parts(rendered.parts) == golden["ids"]
        assert rendered.notices == ()
        assert list(template.reference_stops) == golden["stop"]


def test_aquila_v2_ids_are_those_of_its_parts(real: Aquila2Tokenizer) -> None:
    """T1: the one template without goldens, built by hand from the released string."""
    text = real.encode_ordinary
    start, end, eos = 100_000, 100_001, 100_007
    messages = [Message("user", "AI是什么？"), Message("assistant", "A1"), Message("user", "U2")]
    expected = [*text(S + "\n\n"), start, *text("AI是什么？"), end, *text("A1"), eos]
    expected += [start, *text("U2"), end]
    assert real.encode_parts(render_messages(messages, TEMPLATES["aquila-v2"]).parts) == expected


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("你好", [34856]),
        (" 你好", [221, 34856]),
        ("请给出10个要到北京旅游的理由。", [1486, 19743, 865, 424, 50927, 2557, 3063, 32345, 278]),
        ("Hello world", [22299, 3117]),
        ("🙂", [28089, 248, 225]),
        ("### Human: ", [8090, 16399, 26, 221]),
        ("[UNK]", [59, 7691, 43, 61]),
        ("  ", [257]),
        ("\n\n", [982]),
    ],
)
def test_known_ids_of_the_real_vocabulary(
    text: str, ids: list[int], real: Aquila2Tokenizer
) -> None:
    """P3: a few ids that were recorded from the reference."""
    assert real.encode_ordinary(text) == ids


def compare_with_reference(
    rounds: int, template: Template, tokenizer: Aquila2Tokenizer, reference: Tokenizer
) -> None:
    rng = random.Random(f"{template.name} {rounds}")
    for _ in range(rounds):
        parts = render_messages(random_conversation(rng), template).parts
        assert tokenizer.encode_parts(parts) == reference.encode(spelt(parts)).ids


@pytest.mark.parametrize("template", ALL_TEMPLATES, ids=lambda template: template.name)
def test_benign_conversations_have_the_reference_ids(
    template: Template, tokenizer: Aquila2Tokenizer, reference: Tokenizer
) -> None:
    """P3: encoding by parts costs no parity where text is benign."""
    compare_with_reference(150, template, tokenizer, reference)


@pytest.mark.slow
@pytest.mark.parametrize("template", ALL_TEMPLATES, ids=lambda template: template.name)
def test_5000_benign_conversations_have_the_reference_ids(
    template: Template, tokenizer: Aquila2Tokenizer, reference: Tokenizer
) -> None:
    """P3: the whole run."""
    compare_with_reference(5000, template, tokenizer, reference)


def test_neighbouring_text_is_encoded_as_one(real: Aquila2Tokenizer) -> None:
    """P3: merges cross the border of two texts, and no control token's."""
    assert real.encode_parts([Text("Hel"), Text("lo"), Text(" world")]) == [22299, 3117]
    apart = real.encode_parts([Text("Hel"), Control("</s>"), Text("lo")])
    assert apart == [*real.encode_ordinary("Hel"), 100_007, *real.encode_ordinary("lo")]


def test_the_trailing_space_is_an_option(real: Aquila2Tokenizer) -> None:
    """T1: the released inference code adds one space, the released training code none."""
    question = [Message("user", "U1")]
    for template in ALL_TEMPLATES:
        without = spelt(render_messages(question, template).parts)
        with_space = spelt(render_messages(question, template, trailing_space=True).parts)
        assert with_space == without + " "
        opened = [*question, Message("assistant", "A")]
        assert spelt(render_messages(opened, template, trailing_space=True).parts).endswith("A")
    legacy = render_messages(question, TEMPLATES["aquila-legacy"], trailing_space=True).parts
    assert real.encode_parts(legacy)[-2:] == [26, 257]
