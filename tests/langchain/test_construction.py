from __future__ import annotations

import pickle

import pytest
from langchain_core.load import dumpd, load
from langchain_core.messages import HumanMessage

from aquila2_runtime import errors as ours
from langchain_aquila2 import ChatAquila2


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"temprature": 1}, ours.UnknownParameterError),
        ({"temperature": "hot"}, ours.InvalidSamplingParamsError),
        ({"device": "tpu"}, ours.InvalidLoadOptionError),
    ],
)
def test_a_wrong_argument_leaves_the_constructor_as_our_error(given, kind) -> None:
    with pytest.raises(kind):
        ChatAquila2(model="nowhere", **given)


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
