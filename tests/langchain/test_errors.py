from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest
from langchain_core.exceptions import ContextOverflowError, ModelError

from aquila2_runtime import errors as ours
from langchain_aquila2.errors import TWINS, translate


def tree(root: type[ours.Aquila2Error]) -> Iterator[type[ours.Aquila2Error]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__ == ours.__name__:
            yield from tree(child)


@pytest.mark.parametrize("kind", sorted(set(tree(ours.Aquila2Error)), key=lambda k: k.__name__))
def test_every_class_of_the_tree_has_a_twin_of_both_kinds(kind: type[ours.Aquila2Error]) -> None:
    twin = TWINS[kind]
    assert issubclass(twin, kind)
    assert issubclass(twin, ModelError)
    assert twin.is_retryable is kind.retryable


def test_a_translated_overflow_keeps_its_attributes_and_pickles() -> None:
    error = translate(ours.ContextOverflowError(100, 50, 120))
    assert isinstance(error, ours.ContextOverflowError)
    assert isinstance(error, ContextOverflowError)
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.prompt_tokens, copy.max_tokens, copy.max_model_len) == (100, 50, 120)
    assert str(copy) == str(error) == str(ours.ContextOverflowError(100, 50, 120))
    assert translate(error) is error
