"""Constructing: names and values are checked by our own errors, and nothing is read."""

from __future__ import annotations

import copy
import pathlib
import pickle
from typing import Any

import pytest
from langchain_core import exceptions as core
from langchain_core.load import dumpd, dumps, load, loads
from langchain_core.messages import HumanMessage
from langchain_core.runnables import ConfigurableField
from pydantic import create_model

from aquila2_runtime import errors as ours
from langchain_aquila2 import Aquila2LLM, ChatAquila2
from tests.langchain.support import MakeChat


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"temprature": 1}, ours.UnknownParameterError),
        ({"temperature": "hot"}, ours.InvalidSamplingParamsError),
        ({"device": "tpu"}, ours.InvalidLoadOptionError),
    ],
)
def test_a_wrong_argument_leaves_the_constructor_as_our_error(given, kind) -> None:
    with pytest.raises(kind) as caught:
        ChatAquila2(model="nowhere", **given)
    assert isinstance(caught.value, core.ModelInvalidRequestError)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"timeout": "x"}, ours.InvalidRequestError),
        ({"timeout": -1}, ours.InvalidRequestError),
        ({"timeout": float("nan")}, ours.InvalidRequestError),
        ({"timeout": 10**5000}, ours.InvalidRequestError),
        ({"cache_salt": 5}, ours.InvalidRequestError),
        ({"cache_salt": ""}, ours.InvalidRequestError),
        ({"streaming": "x"}, ours.InvalidRequestError),
        ({"streaming": 1}, ours.InvalidRequestError),
        ({"fit": "x"}, ours.InvalidRequestError),
        ({"fit": ["middle"]}, ours.InvalidRequestError),
        ({"adapter": "x y"}, ours.InvalidRequestError),
        ({"runtime": "x"}, ours.InvalidLoadOptionError),
        ({"stop": 5}, ours.InvalidSamplingParamsError),
        ({"n": "1"}, ours.InvalidSamplingParamsError),
        ({"logit_bias": {"five": 1.0}}, ours.InvalidSamplingParamsError),
        ({"max_model_len": "2048"}, ours.InvalidLoadOptionError),
        ({"model_name": "another"}, ours.InvalidLoadOptionError),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)
@pytest.mark.parametrize("way", ["chat", "plain", "copy"])
def test_a_wrong_value_is_refused_at_construction_by_an_error_of_both_kinds(
    given: dict[str, object], kind: type[Exception], way: str
) -> None:
    """S1: none leaves as pydantic's error, and none waits for the first call."""
    model = ChatAquila2(model="nowhere") if way != "plain" else Aquila2LLM(model="nowhere")
    with pytest.raises(kind) as caught:
        if way == "copy":
            model.model_copy(update=given)
        else:
            type(model)(**{"model": "nowhere", **given})
    assert isinstance(caught.value, core.ModelInvalidRequestError)
    assert caught.value.parameter == next(iter(given)) or "logit_bias" in given


@pytest.mark.parametrize(
    "given",
    [
        {"stop": 5},
        {"stop": [5]},
        {"stop": {"a": 1}},
        {"timeout": -1},
        {"fit": "x"},
        {"cache_salt": 5},
        {"model": ["nowhere"]},
        {"model": {}},
        {"model_name": 5},
        {"model": "nowhere", "model_name": "elsewhere"},
        {"temprature": 1},
        {"temperature": "hot"},
    ],
    ids=str,
)
@pytest.mark.parametrize("way", ["invoke", "stream", "generate", "batch"])
def test_a_wrong_keyword_of_a_call_is_refused_before_anything_is_loaded(
    given: dict[str, object], way: str
) -> None:
    """S1, S8: stop=5 once failed in the tracing, with a TypeError of its own."""
    model = ChatAquila2(model="nowhere")
    asked = {"generate": [[HumanMessage("hi")]], "batch": ["hi"]}.get(way, "hi")
    with pytest.raises(core.ModelInvalidRequestError) as caught:
        answer = getattr(model, way)(asked, **given)
        list(answer)
    assert isinstance(caught.value, ours.InvalidRequestError)


@pytest.mark.filterwarnings("ignore:The function `load")
@pytest.mark.parametrize("kind", [ChatAquila2, Aquila2LLM])
def test_dump_and_pickle_give_an_equal_model_without_secrets_or_weights(kind: Any) -> None:
    """Also through JSON, which makes text of the ids in logit_bias."""
    bias = {5: 1.0, 7: -100.0}
    model = kind(model="nowhere", seed=3, logit_bias=bias, api_key="hidden-key", max_retries=2)
    dumped = dumpd(model)
    assert "hidden-key" not in str(dumped)
    given: Any = {"allowed_objects": [kind], "valid_namespaces": ["langchain_aquila2"]}
    assert load(dumped, **given) == model
    assert loads(dumps(model), **given) == model
    assert pickle.loads(pickle.dumps(model)) == model
    assert not model._lease.loaded


@pytest.mark.parametrize("kind", [ChatAquila2, Aquila2LLM])
def test_directories_may_be_paths(kind: Any) -> None:
    """They left the constructor as pydantic's error."""
    place = pathlib.Path("some") / "where"
    model = kind(model=place, cache_dir=place, adapters={"a": place})
    text = str(place)
    assert (model.model, model.cache_dir, model.adapters) == (text, text, {"a": text})
    assert model == kind(model=text, cache_dir=text, adapters={"a": text})


async def test_whatever_is_made_of_a_model_loads_nothing() -> None:
    """There is no such model: anything that loaded it would raise."""
    model = ChatAquila2(model="nowhere")
    field = ConfigurableField(id="warmth")
    configured = model.configurable_fields(temperature=field)
    made, _ = configured.prepare({"configurable": {"warmth": 0.5}})
    models = [made, model.model_copy(update={"seed": 1}), copy.deepcopy(model)]
    models += [pickle.loads(pickle.dumps(model)), ChatAquila2(**model.model_dump())]
    for one in models:
        assert isinstance(one, ChatAquila2)
        assert not one._lease.loaded
    model.bind_tools([{"title": "f", "type": "object", "properties": {}}])
    model.with_structured_output({"title": "f", "type": "object", "properties": {}})
    assert model.profile and model._get_llm_string() and model._get_ls_params()
    assert not model._lease.loaded
    for ask in (model.invoke, configured.with_config(configurable={"warmth": 1}).invoke):
        with pytest.raises(ours.ModelNotFoundError):
            ask("hi")


def test_an_image_is_refused_before_anything_is_loaded_or_fetched() -> None:
    model = ChatAquila2(model="nowhere")
    block = {"type": "image_url", "image_url": "http://example.invalid/x.png"}
    with pytest.raises(ours.UnsupportedContentError):
        model.invoke([HumanMessage([block])])


def test_cache_keys_tell_models_and_settings_apart() -> None:
    """In other adapters model B was served model A's answer."""
    settings: list[dict[str, Any]] = [
        {},
        {"model": "elsewhere"},
        {"adapters": {"a": "somewhere"}, "adapter": "a"},
        {"quantization": "nf4"},
        {"template": "aquila-v1"},
        {"seed": 1},
        {"temperature": 0},
        {"max_tokens": 5},
        {"stop": ["x"]},
        {"logit_bias": {5: 1.0}},
        {"logprobs": True},
        {"logprobs": True, "top_logprobs": 2},
        {"fit": "middle"},
        {"timeout": 5},
    ]
    models = [ChatAquila2(**{"model": "nowhere", **one}) for one in settings]
    keys = [model._get_llm_string() for model in models]
    keys += [models[0]._get_llm_string(stop=["y"]), models[0]._get_llm_string(temperature=1)]
    assert len(set(keys)) == len(keys)
    assert ChatAquila2(model="nowhere")._get_llm_string() == keys[0]
    blocks = ChatAquila2(model="nowhere", output_version="v1")
    assert blocks._get_llm_string() not in keys, "its answers have another form"
    classes = [create_model("Answer", **{name: (int, ...)}) for name in ("a", "b")]
    keys = [models[0]._get_llm_string(response_format=one) for one in classes]
    assert len(set(keys)) == 2, "two classes of one name are two questions"
    plain = [Aquila2LLM(**{"model": "nowhere", **one}) for one in settings]
    assert len({str(sorted(one.asdict().items())) for one in plain}) == len(plain)


def test_tracers_are_told_what_a_call_asks_for() -> None:
    model = ChatAquila2(model="nowhere", temperature=0.5, max_tokens=7, stop="a")
    assert model._get_ls_params(stop=["b"]) == {
        "ls_provider": "aquila2",
        "ls_model_name": "nowhere",
        "ls_model_type": "chat",
        "ls_temperature": 0.5,
        "ls_max_tokens": 7,
        "ls_stop": ["a", "b"],
    }
    told = model._get_ls_params(model_name="another", temperature=1.0, max_tokens=9)
    assert told["ls_model_name"] == "another"
    assert (told["ls_temperature"], told["ls_max_tokens"]) == (1.0, 9)


def test_models_that_were_used_are_equal_by_their_settings_still(make_chat: MakeChat) -> None:
    """LangChain keeps what it serialized in a used model's dictionary."""
    used, fresh = make_chat(max_tokens=2), make_chat(max_tokens=2)
    used.invoke("hi")
    assert used == fresh
    assert used != make_chat(max_tokens=3)
    assert used != "hi"


@pytest.mark.parametrize("kind", [ChatAquila2, Aquila2LLM])
def test_a_field_that_is_assigned_is_checked_at_once_and_what_is_loaded_stays(kind: Any) -> None:
    """An assigned model was passed over: the old one answered in the new one's name."""
    model = kind(model="nowhere", max_tokens=4)
    for name, value in {"model": "elsewhere", "max_model_len": 64, "runtime": "x"}.items():
        with pytest.raises(ours.InvalidLoadOptionError, match="cannot change") as caught:
            setattr(model, name, value)
        assert isinstance(caught.value, core.ModelInvalidRequestError)
    for name, value in {"temperature": "hot", "stop": 5, "streaming": "x", "timeout": -1}.items():
        with pytest.raises(ours.InvalidRequestError, match=name):
            setattr(model, name, value)
    assert model == kind(model="nowhere", max_tokens=4)
    model.model, model.stop, model.logit_bias, model.temperature = "nowhere", ("a",), {"5": 1}, 0
    told = model._serialized["kwargs"]
    assert (model.stop, model.logit_bias, told["temperature"]) == (["a"], {5: 1}, 0)
    model.temperature = 1
    assert model._serialized["kwargs"]["temperature"] == 1
    assert model == kind(
        model="nowhere", max_tokens=4, temperature=1, stop=["a"], logit_bias={5: 1}
    )
