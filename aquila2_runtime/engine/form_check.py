"""FormCheck: whether ids that another engine chose keep the form asked for. It asks nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aquila2_runtime.engine.base import Finished
from aquila2_runtime.engine.constraint import is_set
from aquila2_runtime.errors import ServerError
from aquila2_runtime.outputs import FinishReason

if TYPE_CHECKING:
    from aquila2_runtime.engine.base import EngineRequest


class FormCheck:
    """Follows one answer. Without a form, all is right.

    Args:
        request: What was asked.
    """

    def __init__(self, request: EngineRequest) -> None:
        self._rule = None if request.form is None else request.form.rule()
        self._eos = request.eos_token_id

    def take(self, token_id: int) -> None:
        """Look at the next id.

        Raises:
            ServerError: The form does not allow it.
        """
        rule = self._rule
        if rule is None or (token_id == self._eos and rule.ended):
            return
        if not (rule.allows(token_id) or is_set(rule.mask(), token_id)):
            raise _not_kept()
        if token_id != self._eos:
            rule.advance(token_id)

    def finished(self, finished: Finished) -> Finished:
        """Look at the end; gives it.

        Raises:
            ServerError: The answer ends before its form is complete, and not for its length.
        """
        rule = self._rule
        if rule is None or rule.ended or finished.reason is not FinishReason.STOP:
            return finished
        if not is_set(rule.mask(), self._eos):
            raise _not_kept()
        return finished


def _not_kept() -> ServerError:
    return ServerError(
        "The server does not hold the answer to the form that was asked for.",
        parameter="constraint",
        hint="Use aquila2 serve, or start vLLM with --structured-outputs-config.backend guidance.",
    )
