"""Context: the real window, and no prompt of LlamaIndex's own that exceeds it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.schema import TextNode

from aquila2_runtime import Aquila2Runtime, ContextOverflowError, Message
from llamaindex_aquila2.conformance.texts import CHINESE, ENGLISH, document
from tests.llamaindex.support import ENDPOINTS, QUESTION, MakeLLM, ask, usage_of


class TestDContext:
    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    def test_d12_only_an_explicit_limit_that_cannot_fit_is_refused(
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

    @pytest.mark.parametrize("endpoint", ["chat", "stream_chat", "achat", "astream_chat"])
    @pytest.mark.parametrize("characters", [215, 345, 900])
    def test_with_fit_the_default_answer_has_room(
        self, make_llm: MakeLLM, endpoint: str, characters: int
    ) -> None:
        """P8, P9: also where the prompt alone is just below the limit."""
        llm = make_llm(max_model_len=256, fit="middle", ignore_eos=True)
        last = ask(llm, endpoint, [ChatMessage(document("zh", characters, 1))])[-1]
        assert usage_of(last)["completion_tokens"] == 64
        assert 180 <= usage_of(last)["prompt_tokens"] <= 192
        assert last.raw["notices"]

    def test_a_question_that_fills_the_context_gets_what_is_left_even_with_fit(
        self, make_llm: MakeLLM
    ) -> None:
        """P9: the default limit is no reason to refuse what cannot be shortened."""
        llm = make_llm(max_model_len=256, fit="drop_oldest", ignore_eos=True)
        question = document("zh", 215, 1)
        turns = [ChatMessage("Hello"), ChatMessage("OK", role="assistant"), ChatMessage(question)]
        response = llm.chat(turns)
        assert 0 < usage_of(response)["completion_tokens"] < 64
        total = usage_of(response)["total_tokens"]
        assert total == 256

    def test_d14_metadata_is_true_and_loads_no_weights(
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

    def test_d14_metadata_is_the_same_from_a_loaded_runtime(
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


class TestDHelpers:
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
