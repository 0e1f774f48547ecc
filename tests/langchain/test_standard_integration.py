"""LangChain's own integration suite for chat models, over the demo checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests

from aquila2_runtime import Aquila2Runtime
from langchain_aquila2 import ChatAquila2
from tests.conftest import EMBEDDED, find_demo

OTHER = "another-checkpoint"


@pytest.fixture(scope="module")
def other_checkpoint(demo_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second checkpoint, for the tests that name another model in a call."""
    return Path(
        shutil.copytree(
            demo_path,
            tmp_path_factory.mktemp("models") / OTHER,
            ignore=shutil.ignore_patterns("*.py", "__pycache__"),
        )
    )


# Nothing here is HTTP to record, so test_stream_time streams without timing itself.
@pytest.mark.filterwarnings("ignore:Benchmark fixture was not used")
class TestStandardIntegration(ChatModelIntegrationTests):
    """What is switched off is what this model does not have."""

    @pytest.fixture(autouse=True)
    def models_at_hand(
        self,
        demo_runtime: Aquila2Runtime,
        other_checkpoint: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Keep the demo loaded, and make the second checkpoint's name a relative path."""
        monkeypatch.chdir(other_checkpoint.parent)

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatAquila2

    @property
    def chat_model_params(self) -> dict[str, Any]:
        found = find_demo()
        model = "aquila2-demo" if found == EMBEDDED else str(found)
        # Named, because the second checkpoint is not a released one, whose template is known.
        return {"model": model, "device": "cpu", "template": "aquila-v1", "max_tokens": 24}

    @property
    def returns_usage_metadata(self) -> bool:
        return True

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return OTHER

    @property
    def enable_vcr_tests(self) -> bool:
        return True
