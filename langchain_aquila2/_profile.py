"""The profile of ``ChatAquila2``: what code may rely on, without reading a file."""

from __future__ import annotations

from typing import Any, Final, cast

from langchain_core.language_models import ModelProfile

# Fields that a profile tells of and that can be assigned.
TOLD: Final = frozenset({"max_tokens", "function_calling"})


class MadeProfile(dict[str, Any]):
    """A profile that a model made of its own fields, and no caller gave or changed.

    LangChain hands all fields of a model on to what is made of it, of other fields too.
    """

    def __init__(self, told: ModelProfile) -> None:
        """Keep what is told beside it, so that changes are seen."""
        super().__init__(told)
        self._made = dict(told)

    @property
    def untouched(self) -> bool:
        """Whether it still is as it was made."""
        return self == self._made


def is_made(profile: object) -> bool:
    """Return whether a profile is what a model said of itself, and nobody changed it since."""
    return isinstance(profile, MadeProfile) and profile.untouched


def profile_of(
    *, max_model_len: int | None, max_output_tokens: int, function_calling: bool
) -> ModelProfile:
    """Return what holds for every checkpoint, and what the caller said of this one.

    Structured output and forced calls are held to their schemas by a grammar, whatever the
    weights. Whether a model calls tools sensibly of its own accord depends on its training, and
    Aquila2 was not trained for tools: ``tool_calling`` is what the caller says.

    Args:
        max_model_len: Tokens of prompt and answer together, where known.
        max_output_tokens: Most tokens of an answer.
        function_calling: Whether the checkpoint was trained for tools.
    """
    profile = ModelProfile(
        open_weights=True,
        temperature=True,
        text_inputs=True,
        text_outputs=True,
        image_inputs=False,
        image_url_inputs=False,
        image_tool_message=False,
        image_outputs=False,
        audio_inputs=False,
        audio_outputs=False,
        video_inputs=False,
        video_outputs=False,
        pdf_inputs=False,
        pdf_tool_message=False,
        reasoning_output=False,
        structured_output=True,
        tool_choice=True,
        tool_call_streaming=True,
        tool_calling=function_calling,
        # They move to the front, and a notice of the answer says so.
        mid_conversation_system_messages=False,
        max_output_tokens=max_output_tokens,
    )
    if max_model_len is not None:
        profile["max_input_tokens"] = max_model_len
    return cast(ModelProfile, MadeProfile(profile))
