"""The released checkpoints: their names, hub ids and templates. It reads no file and no network."""

from __future__ import annotations

import dataclasses
import difflib
import re
from typing import Final

_OWNER: Final = "baai/"
_LONG: Final = 16_384  # tokens of context of the models that were made longer by linear scaling
# Re-packed copies carry the released name and one of these endings; they keep its template.
_REPACKED: Final = re.compile(r"(-int4)?-(awq|gptq|gguf|bnb-4bit|4bit|8bit|int8)$", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, slots=True)
class Released:
    """A checkpoint that can be named.

    Attributes:
        name: Its name in the release's own spelling.
        huggingface: Repository id on Hugging Face; None for the embedded demo.
        modelscope: Repository id on ModelScope; None where none is known.
        template: Chat template it was trained with (FlagAI's map); None for base models.
        context_length: Tokens of context, for documentation and warnings only: the files decide.
        summary: What it is, in a few words.
    """

    name: str
    huggingface: str | None
    modelscope: str | None
    template: str | None
    context_length: int
    summary: str

    @property
    def embedded(self) -> bool:
        """Whether the checkpoint ships inside the package."""
        return self.huggingface is None


def _released(
    name: str, template: str | None, context_length: int, summary: str, *, modelscope: bool
) -> Released:
    hub_id = f"BAAI/{name}"
    return Released(name, hub_id, hub_id if modelscope else None, template, context_length, summary)


# Templates: FlagAI's model-to-template map. Context: the files of each repository's main branch;
# both base models were replaced in place in June 2024 (8192 tokens, another vocabulary), so nothing
# may be concluded from a name but the template.
RELEASED: Final[tuple[Released, ...]] = (
    _released("AquilaChat2-7B", "aquila-v1", 2048, "chat, 7B", modelscope=False),
    _released("AquilaChat2-7B-16K", "aquila", 16384, "long-context chat, 7B", modelscope=False),
    _released("AquilaChat2-34B", "aquila-legacy", 4096, "chat, 34B", modelscope=True),
    _released("AquilaChat2-34B-16K", "aquila", 16384, "long-context chat, 34B", modelscope=True),
    _released("AquilaChat2-70B-Expr", "aquila-v2", 4096, "experimental chat, 70B", modelscope=True),
    _released("Aquila2-7B", None, 8192, "base, 7B", modelscope=False),
    _released("Aquila2-34B", None, 8192, "base, 34B", modelscope=True),
    _released("Aquila2-70B-Expr", None, 4096, "experimental base, 70B", modelscope=True),
    Released("aquila2-demo", None, None, "aquila-v1", 4096, "the embedded demo model"),
)

_BY_NAME: Final = {entry.name.lower(): entry for entry in RELEASED}


def find_released(name: str) -> Released | None:
    """Find a released checkpoint by name.

    Args:
        name: A name in any letter case, with or without ``BAAI/`` in front.

    Returns:
        The entry, or None when no released checkpoint has that name.
    """
    key = name.strip().lower()
    entry = _BY_NAME.get(key.removeprefix(_OWNER))
    if entry is not None and entry.embedded and key.startswith(_OWNER):
        return None
    return entry


def template_of(name: str) -> str | None:
    """Name the chat template of a model by an explicit table; nothing is guessed.

    Args:
        name: A released name, ``owner/name``, or a directory's name. Re-packed copies of a released
            model (``…-AWQ``, ``…-GPTQ``) count as that model, whoever owns them.

    Returns:
        The template's name, or None when the table does not say.
    """
    entry = _called(name)
    return None if entry is None else entry.template


def scales_positions(name: str) -> bool:
    """Whether a model's positions are scaled, as the 16K models' are; names as for a template."""
    entry = _called(name)
    return entry is not None and entry.context_length == _LONG


def _called(name: str) -> Released | None:
    """The released model that a name is of, though it be a re-packed copy's."""
    return find_released(name) or find_released(_REPACKED.sub("", name.rpartition("/")[2]))


def suggest(name: str) -> tuple[str, ...]:
    """Name up to three released checkpoints spelled like ``name``, nearest first."""
    key = name.strip().lower().rpartition("/")[2]
    near = difflib.get_close_matches(key, _BY_NAME, n=3, cutoff=0.6)
    return tuple(_BY_NAME[match].name for match in near)
