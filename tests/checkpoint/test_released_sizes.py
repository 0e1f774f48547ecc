"""The sizes of released models, against their published counts of parameters."""

from __future__ import annotations

import pytest

from aquila2_runtime.catalog import RELEASED, Released
from aquila2_runtime.checkpoint.released_sizes import released_config


@pytest.mark.parametrize("entry", RELEASED, ids=lambda entry: entry.name)
def test_a_released_model_has_the_parameters_of_its_release(entry: Released) -> None:
    found = released_config(entry.name.lower())
    if entry.embedded:
        assert found is None
        return
    assert found is not None
    # Published for the vocabulary of 100,008 entries; the base models of 2024 have more.
    published = {"7B": 7.296e9, "34B": 33.694e9, "70B": 70.091e9}[entry.name.split("-")[1]]
    more = 2 * (found.vocab_size - 100_008) * found.hidden_size
    assert found.num_parameters - more == pytest.approx(published, rel=1e-4)
    assert found.max_position == entry.context_length


def test_other_models_have_no_sizes_to_reckon_with() -> None:
    assert released_config("someone/AquilaChat2-7B-AWQ") is None
    assert released_config("./AquilaChat2-7B") is None
