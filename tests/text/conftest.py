"""Two tokenizers for every property: a small one made here, and the real one where it is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from aquila2_runtime.tokenizer import Aquila2Tokenizer
from tests.text.support import reference_encoder, vocab_size, write_small_tokenizer


@pytest.fixture(scope="session")
def small_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("small") / "tokenizer"
    write_small_tokenizer(directory)
    return directory


@pytest.fixture(scope="session")
def small(small_directory: Path) -> Aquila2Tokenizer:
    return Aquila2Tokenizer.load(small_directory, vocab_size=vocab_size(small_directory))


@pytest.fixture(scope="session")
def real_directory(shared_data: Path) -> Path:
    return shared_data / "aquila2-tokenizer"


@pytest.fixture(scope="session")
def real(real_directory: Path) -> Aquila2Tokenizer:
    return Aquila2Tokenizer.load(real_directory, vocab_size=100_008)


@pytest.fixture(scope="session", params=["small", "real"])
def directory(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(f"{request.param}_directory")
    return found


@pytest.fixture(scope="session")
def tokenizer(directory: Path) -> Aquila2Tokenizer:
    return Aquila2Tokenizer.load(directory, vocab_size=vocab_size(directory))


@pytest.fixture(scope="session")
def reference(directory: Path) -> Tokenizer:
    return reference_encoder(directory)
