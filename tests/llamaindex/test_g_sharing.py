"""Sharing and serialisation: one set of weights, and specifications instead of weights."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from aquila2_runtime import (
    Aquila2Runtime,
    EngineClosedError,
    InvalidLoadOptionError,
    UnknownParameterError,
)
from langchain_aquila2 import ChatAquila2
from llamaindex_aquila2 import Aquila2
from llamaindex_aquila2.conformance.sharing import memory
from tests.llamaindex.support import QUESTION, MakeLLM


def shout(prompt: str) -> str:
    """A function that pickles by its name."""
    return prompt.upper()


class TestGSharing:
    def test_g21_equal_models_share_one_runtime_and_its_weights(
        self, make_llm: MakeLLM, demo_runtime: Aquila2Runtime
    ) -> None:
        """A7: sampling and system prompt belong to the object, weights to the checkpoint."""
        first, second = make_llm(max_tokens=5), make_llm(max_tokens=9, system_prompt="Hi.")
        assert first.runtime is second.runtime
        steps = demo_runtime.stats().steps
        first.complete(QUESTION)
        assert demo_runtime.stats().steps > steps

    def test_g21_copies_share_and_pickles_are_small(self, make_llm: MakeLLM) -> None:
        """C12: nothing copies or carries weights."""
        llm = make_llm(max_tokens=6, stop=["."], completion_to_prompt=shout).warmup()
        data = pickle.dumps(llm)
        assert len(data) < 10_000
        copies = [
            copy.copy(llm),
            copy.deepcopy(llm),
            llm.model_copy(),
            llm.model_copy(deep=True),
            pickle.loads(data),
        ]
        expected = llm.complete(QUESTION).text
        for other in copies:
            assert other.runtime is llm.runtime
            assert other.to_dict() == llm.to_dict()
            assert other.complete(QUESTION).text == expected

    def test_a_copy_can_change_fields_by_name(self, make_llm: MakeLLM) -> None:
        llm = make_llm(max_tokens=6)
        changed = llm.model_copy(update={"max_tokens": 3})
        assert (llm.max_tokens, changed.max_tokens) == (6, 3)
        assert changed.runtime is llm.runtime
        assert llm.model_copy(update={"max_model_len": 300}).metadata.context_window < 300
        with pytest.raises(UnknownParameterError):
            llm.model_copy(update={"max_tokenz": 3})

    def test_a_copy_keeps_who_hears_of_its_loading(self, demo_path: Path, tmp_path: Path) -> None:
        told: list[str] = []
        own = str(shutil.copytree(demo_path, tmp_path / "demo"))
        llm = Aquila2(
            own, template="aquila-v1", device="cpu", progress=lambda *news: told.append(news[0])
        )
        for update in ({"max_tokens": 3}, {"max_model_len": 300}):
            copied = llm.model_copy(update=update)
            assert copied.progress is llm.progress
            assert "progress" not in copied.to_dict()
            assert llm.model_copy(update={**update, "progress": None}).progress is None
        # Of another length, it is loaded for itself.
        assert not told
        copied.warmup().close()
        assert told

    def test_dictionaries_and_json_come_back_equal(self, make_llm: MakeLLM) -> None:
        """A5: a specification without weights, functions or secrets."""
        llm = make_llm(
            max_tokens=6, stop=["."], system_prompt="Hi.", seed=3, kv_cache_memory="256MiB"
        )
        data = llm.to_dict()
        assert data["class_name"] == "Aquila2_llm"
        assert Aquila2.from_dict(data).to_dict() == data
        assert Aquila2.from_json(llm.to_json()).to_dict() == data
        assert Aquila2.model_validate(data).to_dict() == data
        assert json.loads(llm.model_dump_json()) == json.loads(llm.to_json())
        assert not {"callback_manager", "progress", "messages_to_prompt"} & data.keys()

    def test_a_loaded_runtime_can_be_wrapped(self, demo_runtime: Aquila2Runtime) -> None:
        llm = Aquila2.from_runtime(demo_runtime, max_tokens=5, temperature=0)
        assert llm.runtime is demo_runtime
        assert llm.metadata.model_name == demo_runtime.info.model
        text = llm.complete(QUESTION).text
        for other in (copy.deepcopy(llm), llm.model_copy(update={"seed": 1})):
            assert other.runtime is demo_runtime
            assert other.complete(QUESTION).text == text
        with pytest.raises(TypeError, match="pickled"):
            pickle.dumps(llm)
        with pytest.raises(UnknownParameterError):
            Aquila2.from_runtime(demo_runtime, quantization="nf4")
        with pytest.raises(InvalidLoadOptionError):
            llm.model_copy(update={"quantization": "nf4"})
        llm.close()
        assert demo_runtime.healthy

    def test_g21_closing_gives_one_claim_back(self, make_llm: MakeLLM) -> None:
        """C11: idempotent; equal models go on."""
        first, second = make_llm(max_tokens=4), make_llm(max_tokens=4)
        expected = second.complete(QUESTION).text
        first.close()
        first.close()
        with pytest.raises(EngineClosedError):
            first.complete(QUESTION)
        assert second.complete(QUESTION).text == expected

    def test_g21_the_other_adapter_and_other_templates_share_the_weights_too(
        self, make_llm: MakeLLM, spec: dict[str, Any], demo_runtime: Aquila2Runtime
    ) -> None:
        """A7: whoever loads one checkpoint, one engine holds its weights."""
        first = make_llm(max_tokens=4)
        first.complete(QUESTION)
        before = memory()
        second = make_llm(max_tokens=4, template="aquila-v2")
        chat = ChatAquila2(**spec, temperature=0, max_tokens=4)
        wrapped = Aquila2.from_runtime(demo_runtime, temperature=0, max_tokens=4)
        for llm in (second, wrapped):
            assert llm.complete(QUESTION).text
        assert chat.invoke(QUESTION).text == first.complete(QUESTION).text
        runtimes = [second.runtime, wrapped.runtime, chat._lease.runtime()]
        engine = first.runtime._model().engine
        assert all(runtime._model().engine is engine for runtime in runtimes)
        assert memory() <= before * 1.05

    def test_g21_closing_the_last_model_frees_the_weights(
        self, demo_path: Path, tmp_path: Path
    ) -> None:
        """C11: copies are no further claim; a model that is equal is one."""
        own = str(shutil.copytree(demo_path, tmp_path / "demo"))
        first, second = (
            Aquila2(own, template="aquila-v1", device="cpu", max_tokens=2) for _ in "12"
        )
        assert first.complete(QUESTION).text == second.complete(QUESTION).text
        copied, engine = copy.deepcopy(first), first.runtime._model().engine
        first.close()
        assert engine.healthy
        second.close()
        assert not engine.healthy
        for llm in (first, second, copied):
            with pytest.raises(EngineClosedError):
                llm.complete(QUESTION)

    def test_metadata_does_not_wait_for_weights_that_another_thread_loads(
        self, demo_path: Path, tmp_path: Path
    ) -> None:
        """It is asked for on event loops, by every query engine that is made."""
        begun, go_on = threading.Event(), threading.Event()

        def wait(stage: str, done: int, total: int) -> None:
            if threading.current_thread() is loader:
                begun.set()
                go_on.wait(60)

        own = str(shutil.copytree(demo_path, tmp_path / "demo"))
        llm = Aquila2(own, template="aquila-v1", device="cpu", max_tokens=2, progress=wait)
        loader = threading.Thread(target=llm.warmup)
        asker = threading.Thread(target=lambda: llm.metadata, daemon=True)
        loader.start()
        try:
            assert begun.wait(60)
            asker.start()
            asker.join(30)
            assert not asker.is_alive()
            assert not llm._lease.loaded
        finally:
            go_on.set()
            loader.join()
        assert llm.complete(QUESTION).text
        llm.close()

    def test_constructing_reads_nothing(self) -> None:
        """A model that is not there is missed at first use."""
        llm = Aquila2("no/such-model", cache_dir="/nowhere/at/all")
        assert llm.to_payload()["model_name"] == "no/such-model"

    def test_payloads_hold_what_is_safe(self, llm: Aquila2) -> None:
        payload: dict[str, Any] = llm.to_payload()
        assert payload["class_name"] == "Aquila2_llm"
        json.dumps(payload)
