"""F. Tools: calls that fit their schemas, in every method that LlamaIndex has for them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent, ToolCallResult
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ToolCallBlock
from llama_index.core.callbacks import CallbackManager
from llama_index.core.tools import FunctionTool, ToolMetadata
from pydantic import create_model

from aquila2_runtime import (
    Aquila2Runtime,
    InvalidPromptError,
    InvalidRequestError,
    Message,
    Tool,
    UnknownParameterError,
)
from llamaindex_aquila2 import Aquila2
from llamaindex_aquila2._tools import openai_tools
from llamaindex_aquila2.conformance.tools import ADD, NOW, add
from llamaindex_aquila2.conformance.tools import TOOL_METHODS as METHODS
from llamaindex_aquila2.conformance.tools import ask_with_tools as ask
from tests.llamaindex.scripted import scripted_runtime
from tests.llamaindex.support import LLMEvents, MakeLLM, usage_of


def fail(reason: str) -> str:
    """Fail."""
    raise RuntimeError(f"failed: {reason}")


FAIL = FunctionTool.from_defaults(fail)


def calls_of(response: ChatResponse) -> list[ToolCallBlock]:
    return [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]


class TestFSchemas:
    """Schemas of tools' arguments, which pydantic takes long to make."""

    def test_f20_each_prompt_has_a_schema_of_its_own(self) -> None:
        first, second = openai_tools([ADD]), openai_tools([ADD])
        assert first == second == [ADD.metadata.to_openai_tool(skip_length_check=True)]
        first[0]["function"]["parameters"]["properties"].clear()
        assert openai_tools([ADD]) == second

    def test_f20_a_form_that_is_built_anew_is_read_anew(self) -> None:
        form = create_model("Form", place=(str, ...))
        tool = FunctionTool.from_defaults(fail, fn_schema=form)

        def kind() -> str:
            parameters = openai_tools([tool])[0]["function"]["parameters"]
            return str(parameters["properties"]["place"]["type"])

        assert kind() == "string"
        form.model_fields["place"].annotation = int
        form.model_rebuild(force=True)
        assert kind() == "integer"

    def test_f20_a_description_of_its_own_is_asked_every_time(self) -> None:
        class Told(ToolMetadata):
            def get_parameters_dict(self) -> dict[str, Any]:
                return {"type": "object", "properties": {self.description: {}}}

        about = Told(description="one", name="tool")
        tool = FunctionTool(fail, about)
        for word in ("one", "two"):
            about.description = word
            assert openai_tools([tool])[0]["function"]["parameters"]["properties"] == {word: {}}


class TestFTools:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("seed", range(3))
    def test_f20_a_required_call_is_made_and_fits_its_schema(
        self, make_llm: MakeLLM, method: str, seed: int
    ) -> None:
        """Hot, so that the weights have little to say: the grammar alone makes the call."""
        llm = make_llm(temperature=2.0, top_p=1.0, max_tokens=64, seed=seed)
        last = ask(llm, method, [ADD, NOW], tool_required=True)[-1]
        (call,) = llm.get_tool_calls_from_response(last)
        assert call.tool_name in {"add", "now"}
        if call.tool_name == "add":
            assert set(call.tool_kwargs) == {"first", "second"}
            assert all(type(value) is int for value in call.tool_kwargs.values())
        else:
            assert call.tool_kwargs == {}
        (block,) = calls_of(last)
        assert (block.tool_call_id, block.tool_kwargs) == (call.tool_id, call.tool_kwargs)
        assert block.tool_call_id is not None
        (plain,) = last.message.additional_kwargs["tool_calls"]
        assert json.loads(plain["function"]["arguments"]) == call.tool_kwargs
        json.dumps(last.model_dump())

    @pytest.mark.parametrize("method", METHODS)
    def test_the_prompt_shows_the_tools_and_one_pair_of_events_is_fired(
        self, make_llm: MakeLLM, demo_runtime: Aquila2Runtime, method: str
    ) -> None:
        handler = LLMEvents()
        llm = make_llm(max_tokens=40, callback_manager=CallbackManager([handler]))
        last = ask(llm, method, [ADD], tool_choice="add")[-1]
        shown = Tool("add", ADD.metadata.description, ADD.metadata.get_parameters_dict())
        ids = demo_runtime.render([Message("user", "What is 12 + 30?")], tools=[shown])
        assert usage_of(last)["prompt_tokens"] == len(ids)
        assert (len(handler.starts), len(handler.ends)) == (1, 1)
        json.dumps(handler.starts[0]["additional_kwargs"])

    def test_a_streamed_call_grows_and_keeps_its_id(self, make_llm: MakeLLM) -> None:
        llm = make_llm(max_tokens=64)
        chunks = ask(llm, "stream_chat_with_tools", [ADD], tool_required=True)
        seen = [llm.get_tool_calls_from_response(chunk, False) for chunk in chunks]
        begun = [calls[0] for calls in seen if calls]
        assert len(begun) > 3
        assert len({call.tool_id for call in begun}) == 1
        assert {call.tool_name for call in begun} == {"add"}
        assert begun[0].tool_kwargs == {}
        assert set(begun[-1].tool_kwargs) == {"first", "second"}
        assert "".join(chunk.delta or "" for chunk in chunks) == ""

    def test_one_call_at_most_where_several_are_not_allowed(self, make_llm: MakeLLM) -> None:
        # Longer than one call, so that an answer that may go on must.
        llm = make_llm(max_tokens=120, min_tokens=40)
        for parallel in (True, False):
            kwargs: dict[str, Any] = {"tool_required": True, "allow_parallel_tool_calls": parallel}
            (response,) = ask(llm, "chat_with_tools", [NOW], **kwargs)
            assert (len(calls_of(response)) > 1) is parallel

    def test_the_caller_s_history_and_tools_stay_as_they_were(self, llm: Aquila2) -> None:
        history = [ChatMessage("Hello"), ChatMessage("Hi", role="assistant")]
        tools = [ADD]
        ask(llm, "chat_with_tools", tools, chat_history=history, tool_choice="none")
        llm.predict_and_call([NOW], "What time is it?", chat_history=history)
        assert [message.content for message in history] == ["Hello", "Hi"]
        assert tools == [ADD]

    def test_choices_are_taken_in_every_provider_s_words(self, make_llm: MakeLLM) -> None:
        llm = make_llm(max_tokens=40)
        named = {"type": "function", "function": {"name": "now"}}
        for choice in ("any", "required", True, "now", named):
            (response,) = ask(llm, "chat_with_tools", [NOW], tool_choice=choice)
            assert [call.tool_name for call in calls_of(response)] == ["now"]
        for choice in ("none", False):
            (response,) = ask(llm, "chat_with_tools", [NOW], tool_choice=choice)
            assert calls_of(response) == []
            with pytest.raises(ValueError, match="calls no tool"):
                llm.get_tool_calls_from_response(response)

    @pytest.mark.parametrize(
        ("tools", "kwargs", "named"),
        [
            ("add", {}, "tools"),
            ([add], {}, "tools"),
            ([{"name": "add"}], {}, "tools"),
            ([ADD, ADD], {}, "tools"),
            ([ADD], {"tool_choice": "subtract"}, "tool_choice"),
            ([ADD], {"tool_choice": 7}, "tool_choice"),
            ([ADD], {"tool_choice": "none", "tool_required": True}, "tool_required"),
            ([], {"tool_required": True}, "tool_choice"),
        ],
    )
    def test_wrong_tools_and_choices_are_refused_by_name(
        self, llm: Aquila2, tools: Any, kwargs: dict[str, Any], named: str
    ) -> None:
        with pytest.raises(InvalidRequestError) as caught:
            ask(llm, "chat_with_tools", tools, **kwargs)
        assert caught.value.parameter == named

    def test_completions_and_base_models_have_no_tools(self, make_llm: MakeLLM) -> None:
        with pytest.raises(UnknownParameterError):
            make_llm().complete("Hello", tools=[ADD])
        with pytest.raises(InvalidRequestError, match="only conversations have tools"):
            make_llm(is_chat_model=False).chat_with_tools([ADD], "Hello")
        with pytest.raises(InvalidPromptError):
            make_llm().chat([ChatMessage("Hello")], tools=7)

    def test_a_call_that_a_time_limit_cuts_in_two_is_left_out(
        self, demo_runtime: Aquila2Runtime
    ) -> None:
        """The engine here writes prose whatever it is held to, as an aborted answer might end."""
        runtime, engine = scripted_runtime(demo_runtime, 2048, 0)
        text = '<tool_call>{"name": "add", "arguments": {"first": 1'
        engine.script = [text, text]
        llm = Aquila2.from_runtime(runtime)
        for method in ("chat_with_tools", "stream_chat_with_tools"):
            last = ask(llm, method, [ADD], tool_required=True)[-1]
            assert calls_of(last) == []
            assert last.raw["notices"] == ["A tool call is left out: The call is incomplete."]


class TestFPredictAndCall:
    @pytest.mark.parametrize("functions", [True, False])
    def test_a_tool_is_called_whatever_the_metadata_say(
        self, make_llm: MakeLLM, functions: bool
    ) -> None:
        """LlamaIndex's own fails where the model is said to call no functions."""
        llm = make_llm(max_tokens=64, is_function_calling_model=functions)
        assert llm.metadata.is_function_calling_model is functions
        told = llm.predict_and_call([ADD], "What is 12 + 30?")
        (output,) = told.sources
        numbers = output.raw_input["kwargs"]
        assert told.response == str(numbers["first"] + numbers["second"])
        again = asyncio.run(llm.apredict_and_call([ADD], "What is 12 + 30?"))
        assert again.response == told.response

    def test_a_tool_that_fails_is_a_result_or_an_error(self, make_llm: MakeLLM) -> None:
        llm = make_llm(max_tokens=64)
        assert llm.predict_and_call([FAIL], "Fail.").sources[0].is_error
        with pytest.raises(ValueError, match="failed: "):
            llm.predict_and_call([FAIL], "Fail.", error_on_tool_error=True)
        with pytest.raises(ValueError, match="failed: "):
            asyncio.run(llm.apredict_and_call([FAIL], "Fail.", error_on_tool_error=True))

    def test_text_is_an_answer_where_no_call_is_asked_for(self, make_llm: MakeLLM) -> None:
        llm = make_llm(max_tokens=12)
        told = llm.predict_and_call([ADD], "Hi", error_on_no_tool_call=False, tool_choice="none")
        assert told.sources == []
        assert told.response == llm.chat([ChatMessage("Hi")]).message.content


# LlamaIndex's workflows look at every attribute of an agent, also at those pydantic warns of.
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211")
@pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning")
class TestFAgents:
    @pytest.mark.parametrize("streaming", [True, False])
    def test_f20_a_function_agent_calls_its_tool_and_answers(
        self, demo_runtime: Aquila2Runtime, streaming: bool
    ) -> None:
        runtime, engine = scripted_runtime(demo_runtime, 2048, 0)
        call = '<tool_call>{"name": "add", "arguments": {"first": 12, "second": 30}}</tool_call>'
        engine.script = [f"Let me add.\n{call}", "It is 42."]
        llm = Aquila2.from_runtime(runtime, is_function_calling_model=True)
        agent = FunctionAgent(tools=[ADD], llm=llm, streaming=streaming)
        answer, results = asyncio.run(_run(agent, "What is 12 + 30?"))
        assert answer == "It is 42."
        assert [(result.tool_kwargs, result.tool_output.content) for result in results] == [
            ({"first": 12, "second": 30}, "42")
        ]
        # The second prompt has the call as the model wrote it, and its result by name.
        second = runtime.tokenizer.decode(list(engine.asked[1].prompt_token_ids))
        assert call in second
        assert "Tool result (add):\n42" in second

    def test_a_function_agent_runs_on_real_weights(self, make_llm: MakeLLM) -> None:
        llm = make_llm(max_tokens=48, is_function_calling_model=True)
        agent = FunctionAgent(tools=[NOW], llm=llm, initial_tool_choice="now")
        _, results = asyncio.run(_run(agent, "What time is it?", early_stopping_method="generate"))
        assert results[0].tool_output.content == "12:05"

    def test_f20_a_react_agent_stops_before_it_makes_up_an_observation(
        self, demo_runtime: Aquila2Runtime
    ) -> None:
        runtime, engine = scripted_runtime(demo_runtime, 4096, 0)
        engine.script = [
            "Thought: I need a tool.\nAction: add\n"
            'Action Input: {"first": 2, "second": 3}\nObservation: 99\nThought: Nine.\nAnswer: 99',
            "Thought: I can answer.\nAnswer: 5",
        ]
        llm = Aquila2.from_runtime(runtime, stop=["Observation:"])
        # Not said to call functions, LlamaIndex lets it call tools by text.
        workflow = AgentWorkflow.from_tools_or_functions([add], llm=llm)
        (agent,) = workflow.agents.values()
        assert isinstance(agent, ReActAgent)
        answer, results = asyncio.run(_run(agent, "What is 2 + 3?"))
        assert answer == "5"
        assert [result.tool_output.content for result in results] == ["5"]


async def _run(agent: Any, question: str, **kwargs: Any) -> tuple[str, list[ToolCallResult]]:
    handler = agent.run(question, max_iterations=3, **kwargs)
    events = [event async for event in handler.stream_events()]
    return str(await handler), [event for event in events if isinstance(event, ToolCallResult)]
