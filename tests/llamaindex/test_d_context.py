"""Context: the real window, and no prompt of LlamaIndex's own that exceeds it."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
from typing import Any

import pytest
from llama_index.core import get_response_synthesizer
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager
from llama_index.core.callbacks.schema import EventPayload
from llama_index.core.schema import NodeWithScore, TextNode

from aquila2_runtime import Aquila2Runtime, ContextOverflowError, Message
from tests.llamaindex.support import ENDPOINTS, QUESTION, LLMEvents, MakeLLM, ask, usage_of

ENGLISH = "The harbour office in Rotterdam moved to the third floor in March. "
CHINESE = "北京的图书馆在三月份搬到了新的大楼，读者可以从东门进入。"
CODE = "def add(first: int, second: int) -> int:\n    return first + second  # simple\n"


def document(kind: str, characters: int, seed: int) -> str:
    """A text of a kind and length; mixed texts change kind from sentence to sentence."""
    chooser = random.Random(seed)
    kinds = {"en": [ENGLISH], "zh": [CHINESE], "code": [CODE], "mixed": [ENGLISH, CHINESE, CODE]}
    text = ""
    while len(text) < characters:
        text += chooser.choice(kinds[kind]).replace("three", str(chooser.randrange(10_000)))
        text += f"{chooser.randrange(10_000)} "
    return text[:characters]


class TestDContext:
    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    def test_a_prompt_that_is_too_long_is_refused_with_its_numbers(
        self, make_llm: MakeLLM, demo_runtime: Aquila2Runtime, endpoint: str
    ) -> None:
        """P8: before any work, and nothing is cut silently."""
        llm, steps = make_llm(), demo_runtime.stats().steps
        with pytest.raises(ContextOverflowError) as caught:
            ask(llm, endpoint, CHINESE * 200)
        length = demo_runtime.info.max_model_len
        assert caught.value.max_model_len == length
        assert caught.value.prompt_tokens > length
        assert demo_runtime.stats().steps == steps

    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    def test_only_an_explicit_limit_that_cannot_fit_is_refused(
        self, make_llm: MakeLLM, demo_runtime: Aquila2Runtime, endpoint: str
    ) -> None:
        """P9: the default limit gives way to what is left of the context."""
        length = demo_runtime.info.max_model_len
        text = CHINESE * (length // demo_runtime.count_tokens(CHINESE) - 4)
        text += "x " * ((length - 12 - len(demo_runtime.render([Message("user", text)]))) // 3)
        prompt = len(demo_runtime.render([Message("user", text)]))
        assert length - 200 < prompt < length
        last = ask(make_llm(), endpoint, text, ignore_eos=True)[-1]
        assert usage_of(last)["completion_tokens"] == length - prompt
        assert last.raw["finish_reason"] == "length"
        with pytest.raises(ContextOverflowError) as caught:
            ask(make_llm(), endpoint, text, max_tokens=300)
        assert (caught.value.prompt_tokens, caught.value.max_tokens) == (prompt, 300)

    def test_conversations_are_shortened_only_when_asked(self, make_llm: MakeLLM) -> None:
        turns = [ChatMessage(ENGLISH * 6, role=role) for role in ("user", "assistant") * 12]
        turns.append(ChatMessage(QUESTION))
        with pytest.raises(ContextOverflowError):
            make_llm().chat(turns)
        response = make_llm(fit="drop_oldest").chat(turns, max_tokens=8)
        assert response.raw["notices"]
        assert make_llm().chat(turns, max_tokens=8, fit="drop_oldest").raw["notices"]
        # A model's own fit is for conversations; a plain prompt is refused as ever.
        with pytest.raises(ContextOverflowError):
            make_llm(fit="drop_oldest").complete(CHINESE * 200, formatted=True)

    def test_metadata_is_true_and_loads_no_weights(
        self, make_llm: MakeLLM, spec: dict[str, Any], demo_runtime: Aquila2Runtime
    ) -> None:
        """A8: and reads no file the second time."""
        llm = make_llm(max_model_len=1_900, max_tokens=100)
        metadata = llm.metadata
        assert not llm._lease.loaded
        assert llm.metadata is metadata
        assert metadata.num_output == 100
        assert metadata.is_chat_model
        assert not metadata.is_function_calling_model
        assert metadata.model_name == demo_runtime.info.model
        user = QUESTION
        taken = len(demo_runtime.render([Message("user", user)])) - demo_runtime.count_tokens(user)
        assert 1_900 - taken - 3 <= metadata.context_window <= 1_900 - taken

    def test_metadata_is_the_same_from_a_loaded_runtime(
        self, make_llm: MakeLLM, demo_runtime: Aquila2Runtime
    ) -> None:
        wrapped = type(make_llm()).from_runtime(demo_runtime)
        assert wrapped.metadata == make_llm().metadata

    def test_the_system_prompt_takes_its_part_of_the_window(
        self, make_llm: MakeLLM, demo_runtime: Aquila2Runtime
    ) -> None:
        system = "You answer in one full sentence and name your source. " * 3
        plain, with_system = make_llm(), make_llm(system_prompt=system)
        less = plain.metadata.context_window - with_system.metadata.context_window
        user = Message("user", QUESTION)
        more = len(demo_runtime.render([Message("system", system), user])) - len(
            demo_runtime.render([user])
        )
        assert abs(less - more) <= 2

    def test_the_default_limit_is_what_metadata_says(
        self, make_llm: MakeLLM, demo_runtime: Aquila2Runtime
    ) -> None:
        """LlamaIndex plans with num_output; the answer must keep to it."""
        llm = make_llm()
        assert llm.metadata.num_output == min(512, demo_runtime.info.max_model_len // 4)
        small = make_llm(max_model_len=200)
        response = small.complete("Hello", ignore_eos=True)
        assert small.metadata.num_output == 50
        assert usage_of(response)["completion_tokens"] == 50

    def test_importing_and_metadata_need_no_torch(self, spec: dict[str, Any]) -> None:
        """A10: neither the import, nor the constructor, nor metadata."""
        code = f"""
            import sys
            from llamaindex_aquila2 import Aquila2
            llm = Aquila2(**{spec!r})
            assert llm.metadata.context_window > 0
            assert llm.tokenizer_fn("Hello")
            assert not {{"torch", "transformers"}} & set(sys.modules)
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=100)


MODES = ("compact", "refine", "tree_summarize", "simple_summarize", "accumulate")
KINDS = (
    ("zh", 256, None),
    ("en", 64, "Answer in a full sentence."),
    ("code", 512, None),
    ("mixed", 16, "Answer in English."),
)
CASES = [
    (mode, *kind)
    for mode in MODES
    for kind in KINDS
    # LlamaIndex's simple_summarize puts the repr of a list into the prompt; each line break of code
    # then takes more tokens than it counted, and the model rightly refuses what no longer fits.
    if mode != "simple_summarize" or kind[0] not in ("code", "mixed")
]


class TestDFuzz:
    @pytest.mark.parametrize(("mode", "kind", "num_output", "system"), CASES)
    def test_no_response_mode_exceeds_the_window(
        self,
        make_llm: MakeLLM,
        demo_runtime: Aquila2Runtime,
        mode: str,
        kind: str,
        num_output: int,
        system: str | None,
    ) -> None:
        """P8: every prompt that LlamaIndex packs leaves room for the whole answer."""
        handler = LLMEvents()
        llm = make_llm(max_tokens=num_output, system_prompt=system).use_as_default()
        synthesizer = get_response_synthesizer(
            llm=llm, response_mode=mode, prompt_helper=llm.prompt_helper()
        )
        # LlamaIndex gives a default model the default callback manager, so ours comes last.
        llm.callback_manager = CallbackManager([handler])
        # A fixed seed per case: what fails once fails again.
        seed = len(mode) + num_output
        text = document(kind, {"zh": 2_400, "en": 6_500, "code": 3_000, "mixed": 4_000}[kind], seed)
        half = len(text) // 3
        nodes = [
            NodeWithScore(node=TextNode(text=part), score=1.0)
            for part in (text[:half], text[half:])
        ]
        synthesizer.synthesize("Where did the office move? 图书馆在哪里？", nodes)
        assert handler.ends
        for end in handler.ends:
            prompt = usage_of(end[EventPayload.RESPONSE])["prompt_tokens"]
            assert prompt + num_output <= demo_runtime.info.max_model_len
        # Packed with the model's own tokenizer, prompts are few and full.
        assert len(handler.ends) <= 10

    def test_the_helpers_count_the_model_s_own_tokens(self, make_llm: MakeLLM) -> None:
        llm = make_llm(max_tokens=64)
        nodes = llm.node_parser(chunk_size=120, chunk_overlap=10).get_nodes_from_documents(
            [TextNode(text=document("mixed", 3_000, 1))]  # type: ignore[list-item]
        )
        assert len(nodes) > 3
        assert all(len(llm.tokenizer_fn(node.get_content())) <= 120 for node in nodes)
        memory = llm.chat_memory(200)
        for _ in range(20):
            memory.put(ChatMessage(CHINESE))
        kept = memory.get()
        assert 0 < sum(len(llm.tokenizer_fn(message.content)) for message in kept) <= 200
        assert llm.chat_memory().token_limit < llm.metadata.context_window - 64
