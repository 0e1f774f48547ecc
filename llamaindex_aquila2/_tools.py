"""NoTools: LlamaIndex's tool methods, refused clearly. It knows no messages and no runtime."""

from __future__ import annotations

from typing import Any, NoReturn

from llama_index.core.llms.function_calling import FunctionCallingLLM


class NoTools(FunctionCallingLLM):
    """A FunctionCallingLLM that does not call functions.

    Aquila2 was not trained for tools. LlamaIndex's own fallback for such models,
    ``predict_and_call``, fails inside with an unrelated error, so it is refused here too.
    """

    def _prepare_chat_with_tools(
        self, *args: Any, tool_required: bool = False, **kwargs: Any
    ) -> dict[str, Any]:
        """Refuse; ``tool_required`` is named because LlamaIndex looks for it."""
        _refuse("chat_with_tools")

    def predict_and_call(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: see the class.

        Raises:
            NotImplementedError: Always.
        """
        _refuse("predict_and_call")

    async def apredict_and_call(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: see the class.

        Raises:
            NotImplementedError: Always.
        """
        _refuse("apredict_and_call")

    def get_tool_calls_from_response(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: see the class.

        Raises:
            NotImplementedError: Always.
        """
        _refuse("get_tool_calls_from_response")


def _refuse(method: str) -> NoReturn:
    msg = (
        f"{method} is not supported: Aquila2 was not trained for tools. Use a ReActAgent, which "
        "works by text (give the model stop=['Observation:']), or structured_predict."
    )
    raise NotImplementedError(msg)
