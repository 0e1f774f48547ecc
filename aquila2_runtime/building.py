"""ModelBuild: one load, from a checked checkpoint to a model that runs. It shares nothing."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from aquila2_runtime.cache_size import cache_blocks, check_asked
from aquila2_runtime.checkpoint.free_memory import available_memory
from aquila2_runtime.checkpoint.memory import MemoryEstimate
from aquila2_runtime.checkpoint.shortage import ran_out
from aquila2_runtime.checkpoint.verify import WeightFiles, verify_weights
from aquila2_runtime.checkpoint.weights import load_weights
from aquila2_runtime.engine.ahead_runner import AheadRunner
from aquila2_runtime.engine.faults import empty_device_cache
from aquila2_runtime.engine.heap import keep_freed_memory
from aquila2_runtime.engine.kv_cache import BlockPool
from aquila2_runtime.engine.pace import Pace
from aquila2_runtime.engine.runner import Runner
from aquila2_runtime.engine.sampler import Sampler
from aquila2_runtime.engine.scheduler import Scheduler
from aquila2_runtime.engine.torch_engine import TorchEngine
from aquila2_runtime.fits import settle
from aquila2_runtime.lora_adapters import adapter_bytes, add_to_bank
from aquila2_runtime.model_parts import make_caches, make_decoder, make_runner, split_attention
from aquila2_runtime.placement import BLOCK_SIZE, Placement, type_name
from aquila2_runtime.registry import LoadedModel

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.config import ModelConfig
    from aquila2_runtime.checkpoint.lora import AdapterFiles
    from aquila2_runtime.checkpoint.resolve import ResolvedCheckpoint
    from aquila2_runtime.engine.decoder import Decoder
    from aquila2_runtime.engine.lora import LoraBank
    from aquila2_runtime.load_options import LoadOptions
    from aquila2_runtime.tokenizer import Aquila2Tokenizer

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class _Built:
    """What only the engine's thread can tell about a load.

    Attributes:
        blocks: KV blocks.
        reason: Why so many.
        weight_bytes: Of the weights in memory.
        bank: The adapters beside them.
        captured: Whether decoding steps are captured.
    """

    blocks: int
    reason: str
    weight_bytes: int
    bank: LoraBank
    captured: bool


@dataclasses.dataclass(frozen=True, slots=True)
class ModelBuild:
    """One load: checked in its caller's thread, built in the engine's.

    Attributes:
        options: What was asked for.
        resolved: The checkpoint.
        config: Of the checkpoint.
        tokenizer: Of the checkpoint.
        max_model_len: Tokens of the longest request.
        placement: Device and types.
        adapters: LoRA adapters to keep beside the weights.
        into_weights: The one to merge into them.
    """

    options: LoadOptions
    resolved: ResolvedCheckpoint
    config: ModelConfig
    tokenizer: Aquila2Tokenizer
    max_model_len: int
    placement: Placement
    adapters: Sequence[AdapterFiles]
    into_weights: AdapterFiles | None

    def run(self) -> LoadedModel:
        """Check, load and start the engine.

        Raises:
            CheckpointError: A file of the checkpoint is wrong.
            InsufficientMemoryError: It does not fit.
        """
        self._say("checking", 0)
        files, placement, needed = self._check()
        started = time.monotonic()
        built: list[_Built] = []
        given_up = threading.Event()

        def build() -> tuple[Runner, Scheduler]:
            try:
                runner, scheduler, facts = self._build(files, placement, needed, given_up)
            except torch.OutOfMemoryError as error:
                raise ran_out(self.resolved.name, placement.device, needed, error) from error
            built.append(facts)
            return runner, scheduler

        engine = TorchEngine(build, name=self.resolved.name, give_up=given_up.set)
        facts = built[0]
        self._say("ready", int(time.monotonic() - started))
        return LoadedModel(
            engine,
            self.tokenizer,
            self.config,
            dataclasses.replace(placement, cuda_graphs=facts.captured),
            self.options,
            facts.blocks,
            facts.weight_bytes,
            facts.reason,
            facts.bank,
        )

    def _check(self) -> tuple[WeightFiles, Placement, MemoryEstimate]:
        """Everything that can be known without reading a weight is checked before one is read."""
        options, config = self.options, self.config
        name = self.resolved.name
        files = verify_weights(self.resolved.path, config, allow_pickle=options.allow_pickle)
        if config.packing is not None:
            _log.warning(
                "%s holds %s weights: they are unpacked into %s as they are loaded, which takes "
                'that much memory. quantization="nf4" packs them again.',
                name,
                config.packing.label,
                options.quantization or type_name(self.placement.dtype),
            )
        # What this process has freed counts as free.
        empty_device_cache()
        beside = adapter_bytes(config, self.placement.dtype, self.placement.device, self.adapters)
        placement, needed = settle(options, config, self.placement, self.max_model_len, beside)
        check_asked(options, config, placement, needed)
        where = ", ".join(str(stage.device) for stage in placement.stages)
        _log.info("%s needs on %s:\n%s", name, where, needed.table())
        for choice in ("device", "attention", "cuda_graphs"):
            _log.info("%s: %s (%s)", choice, getattr(placement, choice), placement.reasons[choice])
        return files, placement, needed

    def _build(
        self,
        files: WeightFiles,
        placement: Placement,
        needed: MemoryEstimate,
        given_up: threading.Event,
    ) -> tuple[Runner, Scheduler, _Built]:
        """Load the weights and size the cache; the engine's thread calls this."""
        config = self.config
        decoder, weight_bytes = self._load(files, placement, given_up)
        free = [available_memory(str(stage.device)) for stage in placement.stages]
        blocks, reason = cache_blocks(
            self.options, config, placement, free, self.max_model_len, needed.reserve
        )
        caches = make_caches(config, placement, blocks)
        sampler = Sampler(config.vocab_size, self.tokenizer.n_vocab)
        if len(caches) > 1:
            runner = Runner(decoder, split_attention(caches, placement), sampler)
        else:
            runner = make_runner(decoder, caches[0], sampler, placement)
        captured = isinstance(runner, AheadRunner)
        most_beside = placement.max_prefill_beside_decode
        scheduler = Scheduler(
            BlockPool(blocks, BLOCK_SIZE, prefix_cache=placement.prefix_cache),
            max_num_seqs=placement.max_num_seqs,
            max_step_tokens=placement.max_step_tokens,
            max_prefill_beside_decode=most_beside,
            # A GPU's steps are launched ahead: the host's clock does not tell what they take.
            pace=Pace(most_beside) if placement.device.type == "cpu" else None,
            tile=runner.tile,
            speculate=placement.speculation is not None,
            ahead=captured,
        )
        facts = _Built(blocks, reason, weight_bytes, decoder.adapters, captured)
        return runner, scheduler, facts

    def _load(
        self, files: WeightFiles, placement: Placement, given_up: threading.Event
    ) -> tuple[Decoder, int]:
        """Read the weights into a forward pass; its bytes beside it."""
        options = self.options
        if placement.device.type == "cuda":
            # Of this thread alone; kernels are launched where it points.
            torch.cuda.set_device(placement.device)
        else:
            keep_freed_memory()
        model = load_weights(
            self.resolved.path,
            self.config,
            dtype=placement.dtype,
            device=placement.device,
            allow_pickle=options.allow_pickle,
            quantization=options.quantization,
            progress=options.progress,
            files=files,
            merge=self.into_weights,
            homes=[stage.device for stage in placement.stages for _ in stage.layers],
            stopped=given_up.is_set,
        )
        weight_bytes = sum(
            parameter.numel() * parameter.element_size() for parameter in model.parameters()
        )
        decoder = make_decoder(model, self.config, placement, nf4_copy=options.nf4_copy)
        # Before the cache is sized by what is left.
        add_to_bank(decoder.adapters, self.adapters)
        del model
        # What the fused weights replaced is given back, so that it counts as free.
        empty_device_cache()
        return decoder, weight_bytes

    def _say(self, stage: str, done: int) -> None:
        if self.options.progress is not None:
            self.options.progress(stage, done, None)
