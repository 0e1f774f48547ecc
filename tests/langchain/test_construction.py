"""Constructing: names and values are checked by our own errors, and nothing is read."""

from __future__ import annotations

import pickle

import pytest
from langchain_core import exceptions as core
from langchain_core.load import dumpd, load
from langchain_core.messages import HumanMessage

from aquila2_runtime import errors as ours
from langchain_aquila2 import Aquila2LLM, ChatAquila2


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
        ({"logit_bias": {"5": 1.0}}, ours.InvalidSamplingParamsError),
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


@pytest.mark.filterwarnings("ignore:The function `load`")
def test_dump_and_pickle_give_an_equal_model_without_secrets_or_weights() -> None:
    model = ChatAquila2(model="nowhere", seed=3, api_key="hidden-key", max_retries=2)
    dumped = dumpd(model)
    assert "hidden-key" not in str(dumped)
    names = ["langchain_aquila2"]
    assert load(dumped, allowed_objects=[ChatAquila2], valid_namespaces=names) == model
    assert pickle.loads(pickle.dumps(model)) == model
    assert not model._lease.loaded


def test_an_image_is_refused_before_anything_is_loaded_or_fetched() -> None:
    model = ChatAquila2(model="nowhere")
    block = {"type": "image_url", "image_url": "http://example.invalid/x.png"}
    with pytest.raises(ours.UnsupportedContentError):
        model.invoke([HumanMessage([block])])


def test_cache_keys_differ_by_seed() -> None:
    one, two = (ChatAquila2(model="nowhere", seed=seed) for seed in (1, 2))
    assert one._get_llm_string() != two._get_llm_string()
