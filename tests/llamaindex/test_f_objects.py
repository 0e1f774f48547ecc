"""F. Objects: what is refused, and how, and where a class accepts less than a schema would."""

from __future__ import annotations

import builtins
import datetime
import itertools
import json
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.types import PydanticProgramMode
from pydantic import BaseModel, RootModel, ValidationError, field_validator, model_validator

from aquila2_runtime import (
    Aquila2Runtime,
    FinishReason,
    InvalidConstraintError,
    InvalidRequestError,
    JsonSchema,
    MissingDependencyError,
    RequestTimeoutError,
    UnknownParameterError,
)
from aquila2_runtime.grammar.compiler import Compiler
from llamaindex_aquila2 import Aquila2
from llamaindex_aquila2._object_schema import object_schema
from llamaindex_aquila2.conformance.objects import METHODS, Town, predict
from tests.llamaindex.scripted import scripted_runtime
from tests.llamaindex.support import MakeLLM


class Meeting(BaseModel):
    day: datetime.date
    at: datetime.time
    noted: datetime.datetime


@pytest.mark.parametrize(
    ("member", "text"),
    [
        ("day", "2024-02-29"),
        ("day", "2023-02-29"),
        ("day", "1900-02-29"),
        ("day", "2000-02-29"),
        ("day", "2023-04-31"),
        ("day", "2023-12-31"),
        ("day", "0000-01-01"),
        ("at", "23:59:59"),
        ("at", "23:59:60"),
        ("at", "24:00:00"),
        ("noted", "2024-02-29T12:00:00.5+08:00"),
        ("noted", "2024-02-29T12:00:00+99:00"),
        ("noted", "2024-13-01T12:00:00Z"),
    ],
)
def test_a_date_s_pattern_accepts_what_the_class_does(member: str, text: str) -> None:
    held = JsonSchema(object_schema(Meeting)).json_schema
    pattern = held["properties"][member]["pattern"]
    valid = {"day": "2024-01-01", "at": "12:00:00", "noted": "2024-01-01T12:00:00Z"}
    try:
        Meeting.model_validate_json(json.dumps({**valid, member: text}))
    except ValidationError:
        assert not re.fullmatch(pattern, text)
    else:
        assert re.fullmatch(pattern, text)


class TestFErrors:
    def test_a_limit_that_no_object_fits_is_refused_before_any_work(self, llm: Aquila2) -> None:
        with pytest.raises(InvalidConstraintError, match="there is room for 3"):
            predict(llm, "structured_predict", Town, llm_kwargs={"max_tokens": 3})

    @pytest.mark.parametrize("cls", [dict, "Town", None, list[Town]])
    def test_what_is_no_class_is_refused(self, llm: Aquila2, cls: Any) -> None:
        with pytest.raises(InvalidRequestError) as caught:
            predict(llm, "structured_predict", cls)
        assert caught.value.parameter == "output_cls"

    def test_a_class_without_a_schema_is_refused(self, llm: Aquila2) -> None:
        class Callback(BaseModel):
            function: Callable[[], int]

        with pytest.raises(InvalidRequestError, match="Callback has no JSON schema"):
            predict(llm, "structured_predict", Callback)

    def test_a_validator_of_the_class_may_still_refuse(self, make_llm: MakeLLM) -> None:
        class Never(BaseModel):
            size: int

            @field_validator("size")
            @classmethod
            def refuse(cls, value: int) -> int:
                raise ValueError("never")

        with pytest.raises(ValidationError, match="never"):
            predict(make_llm(max_tokens=30), "structured_predict", Never)
        with pytest.raises(ValidationError, match="never"):
            predict(make_llm(max_tokens=30), "stream_structured_predict", Never)

    def test_a_validator_for_whole_objects_may_fail_on_parts_of_one(
        self, make_llm: MakeLLM
    ) -> None:
        """It looked for a member that was not written yet, and the stream died of a KeyError."""

        class Pair(BaseModel):
            low: int
            high: int
            notes: list[str]

            @model_validator(mode="before")
            @classmethod
            def order(cls, given: dict[str, Any]) -> dict[str, Any]:
                given["low"], given["high"] = sorted((given["low"], given["high"]))
                given["notes"].append("sorted")
                return given

        llm = make_llm(max_tokens=80)
        found = predict(llm, "stream_structured_predict", Pair)
        assert type(found[-1]) is Pair
        assert found[-1:] == predict(llm, "astream_structured_predict", Pair)[-1:]
        assert found[-1:] == predict(llm, "structured_predict", Pair)
        assert all(item.notes in (None, []) for item in found if type(item) is not Pair)
        # What it changes is no news, and is not changed twice.
        assert all(item.notes.count("sorted") == 1 for item in found if type(item) is Pair)
        seen = [item.model_dump() for item in found[:-1]]
        assert all(before != after for before, after in itertools.pairwise(seen))

    def test_an_object_that_is_a_list_streams_too(self, make_llm: MakeLLM) -> None:
        class Numbers(RootModel[list[int]]):
            """Some numbers."""

        found = predict(make_llm(max_tokens=40), "stream_structured_predict", Numbers)
        assert type(found[-1]) is Numbers

    def test_an_object_that_the_time_limit_cut_in_two_says_so(
        self, demo_runtime: Aquila2Runtime
    ) -> None:
        runtime, engine = scripted_runtime(demo_runtime, 2048, 0)
        for method in METHODS:
            engine.script, engine.reason = ['{"name": "Os'], FinishReason.TIMEOUT
            with pytest.raises(RequestTimeoutError, match="complete"):
                predict(Aquila2.from_runtime(runtime), method, Town)

    @pytest.mark.parametrize("method", METHODS)
    def test_what_llama_index_s_programs_are_told_of_tools_is_not_refused(
        self, llm: Aquila2, method: str
    ) -> None:
        """They take it out of the keywords themselves, so callers may give it to any model."""
        told = {"tool_required": True, "tool_choice": "any", "allow_parallel_tool_calls": False}
        found = predict(llm, method, Town, llm_kwargs={"max_tokens": 60, **told})
        assert type(found[-1]) is Town
        with pytest.raises(UnknownParameterError):
            predict(llm, method, Town, llm_kwargs={"tool_wanted": True})

    def test_f19_without_llguidance_the_extra_is_named(
        self, llm: Aquila2, demo_runtime: Aquila2Runtime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = builtins.__import__

        def without(name: str, *args: Any, **kwargs: Any) -> Any:
            if name == "llguidance":
                raise ImportError(name)
            return real(name, *args, **kwargs)

        monkeypatch.delitem(sys.modules, "llguidance", raising=False)
        monkeypatch.setattr(builtins, "__import__", without)
        fresh = Compiler(demo_runtime.tokenizer)
        monkeypatch.setattr("aquila2_runtime.demands.compiler_for", lambda _: fresh)
        for method in METHODS:
            with pytest.raises(MissingDependencyError, match=r"aquila2\[grammar\]"):
                predict(llm, method, Town)

    def test_another_program_mode_is_llama_index_s_own(self, demo_runtime: Aquila2Runtime) -> None:
        runtime, engine = scripted_runtime(demo_runtime, 2048, 0)
        town = {"name": "Ostia", "inhabitants": 1, "rivers": []}
        llm = Aquila2.from_runtime(runtime, pydantic_program_mode=PydanticProgramMode.LLM)
        for method in METHODS[:2]:
            engine.script = [f"Sure: {json.dumps(town)}"]
            assert predict(llm, method, Town) == [Town(**town)]
