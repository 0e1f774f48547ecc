"""Templates: the very ids that every released template makes of what LlamaIndex sends."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from llama_index.core.base.llms.types import (
    CachePoint,
    ChatMessage,
    CitableBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)

from aquila2_runtime import Aquila2Runtime
from aquila2_runtime.templates import TEMPLATES
from aquila2_runtime.tokenizer import Aquila2Tokenizer
from llamaindex_aquila2 import Aquila2
from llamaindex_aquila2._messages import ROLES
from llamaindex_aquila2.conformance.calls import CHATS, COMPLETIONS
from tests.llamaindex.scripted import scripted_runtime
from tests.llamaindex.support import ask
from tests.text.support import ONE_TURN

CONVERSATION = [
    ChatMessage("Be brief.", role=MessageRole.SYSTEM),
    ChatMessage(
        role=MessageRole.USER,
        blocks=[
            TextBlock(text="U1"),
            CachePoint.model_validate({"cache_control": {"type": "ephemeral"}}),
            CitableBlock(title="T", source="S", content=[TextBlock(text="更多")]),
        ],
    ),
    ChatMessage(
        role=MessageRole.CHATBOT, blocks=[ThinkingBlock(content="hm"), TextBlock(text="A1")]
    ),
    ChatMessage("Late.", role=MessageRole.DEVELOPER),
    ChatMessage("U2", role=MessageRole.USER, additional_kwargs={"name": "x" * 50}),
    ChatMessage(
        role=MessageRole.MODEL,
        blocks=[
            TextBlock(text="A2"),
            ToolCallBlock(tool_name="add", tool_kwargs={"a": 1}, tool_call_id="c"),
        ],
    ),
    ChatMessage("R2", role=MessageRole.FUNCTION, additional_kwargs={"tool_call_id": "c"}),
    ChatMessage("R3", role=MessageRole.TOOL),
    ChatMessage("A3", role=MessageRole.ASSISTANT),
    ChatMessage("U4", role=MessageRole.USER),
]
SYSTEM = "Be brief.\n\nLate."
A2 = 'A2\n<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
R2, R3 = "Tool result (add):\nR2", "Tool result:\nR3"
MANY_TURNS = {
    "aquila-chat": f"{SYSTEM}###Human: U1\n更多###Assistant: A1###Human: U2###Assistant: {A2}"
    f"###Human: {R2}###Human: {R3}###Assistant: A3###Human: U4###Assistant:",
    "aquila": f"{SYSTEM}###Human: U1\n更多###Assistant: A1</s>Human: U2###Assistant: {A2}"
    f"</s>Human: {R2}###Human: {R3}###Assistant: A3</s>Human: U4###Assistant:",
    "aquila-legacy": f"{SYSTEM}\n\n### Human: U1\n更多\n### Assistant: A1</s>### Human: U2\n"
    f"### Assistant: {A2}</s>### Human: {R2}\n### Human: {R3}\n### Assistant: A3</s>"
    "### Human: U4\n### Assistant: ",
}
MANY_TURNS["aquila-v1"] = MANY_TURNS["aquila-v2"] = (
    f"{SYSTEM}\n\n<|startofpiece|>U1\n更多<|endofpiece|>A1</s><|startofpiece|>U2<|endofpiece|>{A2}"
    f"</s><|startofpiece|>{R2}<|startofpiece|>{R3}<|endofpiece|>A3</s>"
    "<|startofpiece|>U4<|endofpiece|>"
)
CONTROLS = re.compile(r"(<\|startofpiece\|>|<\|endofpiece\|>|</s>)")


def ids_of(prompt: str, tokenizer: Aquila2Tokenizer) -> tuple[int, ...]:
    """Ids of a prompt that is written out, its control tokens by their spelling."""
    ids: list[int] = []
    for piece in CONTROLS.split(prompt):
        control = tokenizer.control_ids.get(piece)
        ids += tokenizer.encode_ordinary(piece) if control is None else [control]
    return tuple(ids)


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("endpoint", CHATS)
def test_e15_every_role_and_block_has_the_template_s_ids(
    demo_runtime: Aquila2Runtime, name: str, endpoint: str
) -> None:
    """T1, T3: many turns, all roles, system messages that are several and late."""
    assert {message.role for message in CONVERSATION} == set(ROLES) == set(MessageRole)
    runtime, engine = scripted_runtime(demo_runtime, 2_048, 0, template=TEMPLATES[name])
    ask(Aquila2.from_runtime(runtime, max_tokens=4), endpoint, CONVERSATION)
    expected = ids_of(MANY_TURNS[name], demo_runtime.tokenizer)
    assert [request.prompt_token_ids for request in engine.asked] == [expected]


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("endpoint", COMPLETIONS)
def test_e15_a_completion_has_the_template_s_ids(
    demo_runtime: Aquila2Runtime, name: str, endpoint: str
) -> None:
    """T1: it is one user message; with ``formatted`` it is the text and nothing else."""
    runtime, engine = scripted_runtime(demo_runtime, 2_048, 0, template=TEMPLATES[name])
    llm = Aquila2.from_runtime(runtime, max_tokens=4)
    ask(llm, endpoint, "U1")
    ask(llm, endpoint, "U1", formatted=True)
    tokenizer = demo_runtime.tokenizer
    expected = [ids_of(ONE_TURN[name], tokenizer), tuple(tokenizer.encode_ordinary("U1"))]
    assert [request.prompt_token_ids for request in engine.asked] == expected


def test_e15_every_golden_conversation_has_its_ids(
    demo_runtime: Aquila2Runtime, shared_data: Path
) -> None:
    """T1: with the tokenizer of the released models, as their own code renders them."""
    real = Aquila2Tokenizer.load(shared_data / "aquila2-tokenizer", vocab_size=100_008)
    goldens = json.loads((shared_data / "goldens" / "templates.json").read_text("utf-8"))
    assert {golden["template"] for golden in goldens} == set(TEMPLATES) - {"aquila-v2"}
    for golden in goldens:
        runtime, engine = scripted_runtime(
            demo_runtime, 2_048, 0, template=TEMPLATES[golden["template"]], tokenizer=real
        )
        llm = Aquila2.from_runtime(runtime, max_tokens=4)
        llm.chat([ChatMessage(said["content"], role=said["role"]) for said in golden["messages"]])
        assert list(engine.asked[0].prompt_token_ids) == golden["ids"]
