"""I. Packaging: typed, listed where LlamaIndex looks for integrations, within core's versions."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from packaging.requirements import Requirement

import llamaindex_aquila2

PYPROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))


def test_i_the_package_says_that_it_is_typed() -> None:
    assert files(llamaindex_aquila2).joinpath("py.typed").is_file()


def test_i_llamahub_s_metadata_name_a_class_that_is_there() -> None:
    hub = PYPROJECT["tool"]["llamahub"]
    assert hub["import_path"] == llamaindex_aquila2.__name__
    assert set(hub["class_authors"]) == set(llamaindex_aquila2.__all__)


def test_i_the_core_that_these_tests_ran_on_is_within_the_bounds() -> None:
    (bounds,) = PYPROJECT["project"]["optional-dependencies"]["llamaindex"]
    requirement = Requirement(bounds)
    assert requirement.specifier.contains(version("llama-index-core"))
    # Releases without a class that is imported here, and without a field that is copied.
    assert not any(requirement.specifier.contains(old) for old in ("0.14.4", "0.14.13"))
    assert not requirement.specifier.contains("0.15.0")
