"""Described: a checkpoint as its small files describe it. It opens no weights and no engine."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Self

from aquila2_runtime.catalog import scales_positions
from aquila2_runtime.checkpoint.config import read_config
from aquila2_runtime.checkpoint.resolve import resolve
from aquila2_runtime.errors import InvalidLoadOptionError, TokenizerError
from aquila2_runtime.prompts import PromptMaker
from aquila2_runtime.templates import Template, get_template
from aquila2_runtime.tokenizer import Aquila2Tokenizer

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.config import ModelConfig
    from aquila2_runtime.checkpoint.resolve import ResolvedCheckpoint
    from aquila2_runtime.load_options import LoadOptions

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Described:
    """A checkpoint without its weights.

    Attributes:
        resolved: Where it is and what it is called.
        config: Its config.json.
        tokenizer: Of its files.
        template: The one asked for, or the released checkpoint's own; None where neither is.
    """

    resolved: ResolvedCheckpoint
    config: ModelConfig
    tokenizer: Aquila2Tokenizer
    template: Template | None

    @classmethod
    def of(
        cls,
        options: LoadOptions,
        *,
        weights: bool,
        check: Callable[[ModelConfig], object] = lambda config: None,
    ) -> Self:
        """Find a checkpoint, and read what describes it; cheapest checks first.

        Args:
            options: Which, and from where.
            weights: Whether weights that are not on this machine are fetched too.
            check: Refuses what the configuration rules out, before the tokenizer is read.

        Raises:
            TemplateError: There is no such template.
            CheckpointError: It cannot be found, or its files are wrong.
        """
        template = None if options.template is None else get_template(options.template)
        resolved = resolve(
            options.model,
            source=options.source,
            revision=options.revision,
            cache_dir=options.cache_dir,
            allow_pickle=options.allow_pickle,
            # None leaves it to the environment.
            offline=options.offline or None,
            progress=options.progress,
            weights=weights,
        )
        config = read_config(resolved.path)
        check(config)
        tokenizer = Aquila2Tokenizer.load(
            resolved.path,
            vocab_size=config.vocab_size,
            allow_unknown=options.allow_unknown_tokenizer,
        )
        _check_ids(config, tokenizer, resolved)
        if template is None and resolved.template is not None:
            template = get_template(resolved.template)
        return cls(resolved, config, tokenizer, template)

    def prompts(
        self, options: LoadOptions, max_model_len: int, adapters: Mapping[str, str | None]
    ) -> PromptMaker:
        """What makes its prompts.

        Args:
            options: How.
            max_model_len: Tokens of prompt and answer together.
            adapters: Names that requests may give, each with the engine's key for it.
        """
        return PromptMaker(
            tokenizer=self.tokenizer,
            template=self.template,
            max_model_len=max_model_len,
            model=self.resolved.name,
            trailing_space=options.trailing_space,
            strict_markers=options.strict_markers,
            adapters=adapters,
        )

    def max_model_len(self, asked: int | None) -> int:
        """Tokens of prompt and answer together: as asked for, or the checkpoint's context.

        Raises:
            InvalidLoadOptionError: More than the checkpoint was made for.
        """
        most = self.config.max_position
        if asked is not None and asked > most:
            raise InvalidLoadOptionError(
                f"max_model_len={asked}, but the checkpoint was made for {most} tokens.",
                parameter="max_model_len",
                value=asked,
                hint="Beyond that its answers are noise; use a checkpoint with a longer context.",
            )
        return most if asked is None else asked

    def warn_of_lost_scaling(self) -> None:
        """Say in the log when a 16K model's positions are not scaled.

        The first config.json of AquilaChat2-7B-16K left that out, and older copies still do.
        Nothing else tells: the file describes a model with a shorter context, and the answers are
        noise.
        """
        if self.config.rope_factor == 1.0 and scales_positions(self.resolved.name):
            _log.warning(
                "%s was trained with scaled positions, but config.json has no rope_scaling, as in "
                "an old copy: expect noise. Fetch the released config.json again.",
                self.resolved.name,
            )


def _check_ids(
    config: ModelConfig, tokenizer: Aquila2Tokenizer, resolved: ResolvedCheckpoint
) -> None:
    """config.json and the tokenizer files must mean the same token by end of text."""
    if tokenizer.eos_token_id != config.eos_token_id:
        raise TokenizerError(
            f"{resolved.path.name}: config.json says eos_token_id={config.eos_token_id}, but the "
            f"tokenizer files say {tokenizer.eos_token_id}.",
            parameter="eos_token_id",
            value=config.eos_token_id,
            hint="Files of two checkpoints are mixed, or added_tokens.json is missing.",
        )
