from __future__ import annotations

import subprocess
import sys

import pytest

from aquila2_runtime.catalog import RELEASED, find_released, suggest, template_of


@pytest.mark.parametrize(
    ("name", "template"),
    [
        ("AquilaChat2-7B", "aquila-v1"),
        ("AquilaChat2-34B", "aquila-legacy"),
        ("AquilaChat2-7B-16K", "aquila"),
        ("AquilaChat2-34B-16K", "aquila"),
        ("AquilaChat2-70B-Expr", "aquila-v2"),
        ("Aquila2-7B", None),
        ("Aquila2-34B", None),
        ("Aquila2-70B-Expr", None),
        ("aquila2-demo", "aquila-v1"),
    ],
)
def test_each_released_checkpoint_has_the_template_it_was_trained_with(
    name: str, template: str | None
) -> None:
    """T2: the template is chosen by an explicit table."""
    entry = find_released(name)
    assert entry is not None
    assert entry.template == template
    assert template_of(name) == template


@pytest.mark.parametrize(
    "spelling",
    [
        "AquilaChat2-7B",
        "aquilachat2-7b",
        "AQUILACHAT2-7B",
        "BAAI/AquilaChat2-7B",
        "baai/aquilachat2-7b",
    ],
)
def test_a_released_name_is_found_in_any_letter_case_with_or_without_its_owner(
    spelling: str,
) -> None:
    entry = find_released(spelling)
    assert entry is not None
    assert entry.huggingface == "BAAI/AquilaChat2-7B"


def test_every_listed_name_finds_itself() -> None:
    for entry in RELEASED:
        assert find_released(entry.name) is entry
        assert entry.embedded == (entry.huggingface is None)


@pytest.mark.parametrize(
    "name", ["AquilaChat2", "gpt2", "", "other/AquilaChat2-7B", "BAAI/aquila2-demo"]
)
def test_other_names_are_not_found(name: str) -> None:
    assert find_released(name) is None


def test_a_near_miss_is_answered_with_the_name_it_resembles() -> None:
    assert suggest("AquilaChat-7B")[0] == "AquilaChat2-7B"
    assert "AquilaChat2-7B-16K" in suggest("aquila2chat-7b-16k")
    assert suggest("something-else-entirely") == ()


def test_a_repacked_copy_keeps_its_models_template_and_an_unknown_name_has_none() -> None:
    """T2: unknown names get no template rather than a guessed one."""
    assert template_of("TheBloke/AquilaChat2-34B-AWQ") == "aquila-legacy"
    assert template_of("TheBloke/AquilaChat2-34B-16K-GPTQ") == "aquila"
    assert template_of("someone/my-finetune-of-AquilaChat2-7B") is None


def test_names_config_and_resolution_need_neither_torch_nor_transformers() -> None:
    code = (
        "import sys\n"
        "import aquila2_runtime.catalog, aquila2_runtime.checkpoint.config\n"
        "import aquila2_runtime.checkpoint.resolve, aquila2_runtime.checkpoint.verify\n"
        "import aquila2_runtime.checkpoint.memory\n"
        "loaded = {'torch', 'transformers', 'tokenizers', 'huggingface_hub'} & set(sys.modules)\n"
        "sys.exit(', '.join(loaded) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
