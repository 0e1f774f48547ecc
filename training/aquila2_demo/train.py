"""Owns the training run: its steps, checkpoints and curve; how long and on what is `plan.py`'s."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn

from .corpus import MAKERS
from .export import TOKENIZER_FILES
from .lexicon import Words
from .machine import Machine
from .model import Muon, Network, Shape
from .plan import WINDOW, Plan
from .rounding import rounded
from .rows import Batch, Row, Supply, batches, encode
from .together import Together
from .tokenizer import build

MATRIX_RATE, OTHER_RATE, TEXT_WEIGHT, TEXT_SHARE = 0.02, 4e-3, 0.1, 0.1
LOG_SECONDS, SAVE_SECONDS = 120, 240
TESTED = ("reading", "tools", "json", "telling", "reasoning")


def backward(net: Network, parts: list[Batch]) -> tuple[float, int]:
    """Adds the gradients of one step; answers count fully, other text a little."""
    weight = sum(
        float((m[:, 1:] == 2).sum() + TEXT_WEIGHT * (m[:, 1:] == 1).sum()) for _, m in parts
    )
    loss, answers = torch.zeros(()), 0
    for ids, marks in parts:
        wanted = marks[:, 1:]
        some = (wanted == 1) & (torch.rand(wanted.shape) < TEXT_SHARE)
        row, at = ((wanted == 2) | some).nonzero(as_tuple=True)
        is_answer = marks[row, at + 1] == 2
        answers += int(is_answer.sum())
        # All that is chosen is chosen on the CPU, so that a GPU is never waited for.
        target, is_answer = net.here(ids[row, at + 1]), net.here(is_answer)
        with net.numbers():
            logits = net(net.here(ids), net.here(row * ids.size(1) + at))
        each = F.cross_entropy(logits.float(), target, reduction="none")
        scale = torch.where(is_answer, 1.0, TEXT_WEIGHT / TEXT_SHARE)
        torch.autograd.backward((each * scale).sum() / weight)
        loss = loss.to(each.device) + (each.detach() * is_answer).sum()
    return float(loss), answers


@torch.no_grad()
def whole_answers(net: Network, parts: list[Batch]) -> float:
    """Gives the share of answers whose every token, the stop included, is the likeliest one."""
    right = total = 0
    for ids, marks in parts:
        row, at = (marks[:, 1:] == 2).nonzero(as_tuple=True)
        with net.numbers():
            logits = net(net.here(ids), net.here(row * ids.size(1) + at))
        good = (logits.argmax(-1).cpu() == ids[row, at + 1]).tolist()
        spots = list(zip(row.tolist(), at.tolist(), good, strict=True))
        fine = True
        for i, (r, t, ok) in enumerate(spots):
            fine = fine and ok
            if i + 1 == len(spots) or spots[i + 1][:2] != (r, t + 1):
                right, total, fine = right + fine, total + 1, True
    return right / max(1, total)


def trials(tokenizer: Tokenizer, cells: int) -> dict[str, list[Batch]]:
    """Makes held-out talks of some kinds for the curve."""
    found = {}
    for name in TESTED:
        for lang in ("en", "zh"):
            words, made, size = Words(random.Random(99), lang, held=True), list[Row](), 0
            while size < (6000 if name == "reading" else 2500):
                row = encode(tokenizer, MAKERS[name](words, 256), 400)
                if row is not None:
                    made.append(row)
                    size += len(row[0])
            found[f"{name} {lang}"] = batches(made, cells)
    return found


def load_start(net: Network, folder: Path) -> None:
    """Takes the weights of an exported checkpoint.

    Raises:
        ValueError: It reads longer texts than the network is to, or has not as many layers.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    window, layers = config["max_position_embeddings"], config["num_hidden_layers"]
    if layers != net.shape.layers:
        raise ValueError(f"{folder} has {layers} layers, not {net.shape.layers}; see deepen.py")
    if window > net.shape.positions:
        raise ValueError(f"{folder} reads {window} tokens; go on from it with --window {window}")
    state = load_file(folder / "model.safetensors")
    net.load_state_dict(
        {k.removeprefix("model."): v.float() for k, v in state.items() if k != "lm_head.weight"}
    )


class Run:
    """State of a training run."""

    def __init__(self, plan: Plan, machine: Machine, team: Together) -> None:
        """Builds the network and picks up the last checkpoint, if there is one."""
        self.plan, self.machine, self.team = plan, machine, team
        self.tokenizer = Tokenizer.from_file(str(plan.out / "tokenizer.json"))
        torch.manual_seed(plan.seed)
        shape = Shape(self.tokenizer.get_vocab_size(), positions=plan.window)
        self.net = Network(shape, machine.dtype).to(machine.device)
        named = list(self.net.named_parameters())
        self.others = [p for n, p in named if p.dim() == 1 or "embed" in n]
        self.muon = Muon([p for n, p in named if p.dim() == 2 and "embed" not in n], machine.dtype)
        self.adam = torch.optim.AdamW(self.others, betas=(0.9, 0.98), weight_decay=0.0)
        self.step, self.tokens, self.used = 0, 0, 0.0
        self.path = plan.out / "state.pt"
        if self.path.exists():
            self._resume()
        elif plan.start is not None:
            load_start(self.net, plan.start)
        if machine.fused:
            self.net.fuse()
        torch.manual_seed(plan.seed + 1000 * (self.step + 1) + team.rank)
        self.trials = trials(self.tokenizer, machine.cells) if team.writes else {}
        words = plan.out / "tokenizer.json"
        self.supply = Supply(words, plan.tokens, machine.makers, plan.window)
        self.wanted = self._requests()

    def _resume(self) -> None:
        saved = torch.load(self.path, self.machine.device, weights_only=True)
        self.net.load_state_dict(saved["net"])
        self.muon.moments = saved["moments"]
        self.adam.load_state_dict(saved["adam"])
        self.step, self.tokens, self.used = saved["step"], saved["tokens"], saved["used"]

    def _requests(self) -> Iterator[tuple[int, int, bool]]:
        """Yields what each coming step trains on: a seed of its own and the stage."""
        step, seed = self.step, self.plan.seed * self.team.size + self.team.rank
        while True:
            length, early = self.plan.stage(self.plan.done(self.used, self.tokens), step)
            yield seed * 1_000_003 + step + 1000, length, early
            step += 1

    def save(self) -> None:
        """Writes everything needed to go on."""
        content = {"net": self.net.state_dict(), "moments": self.muon.moments}
        numbers = {"step": self.step, "tokens": self.tokens, "used": self.used}
        numbers |= {"window": self.plan.window}
        torch.save(content | {"adam": self.adam.state_dict()} | numbers, str(self.path) + ".new")
        os.replace(str(self.path) + ".new", self.path)

    def once(self) -> tuple[float, int, int]:
        """Makes one optimiser step; gives the loss on answers, their tokens and the row length."""
        done = self.plan.done(self.used, self.tokens)
        factor = self.plan.rate(done, self.step)
        length, made = self.supply.take(self.wanted)
        through = rounded(self.muon.weights) if self.plan.rounds(done, self.step) else nullcontext()
        with through:
            loss, answers = backward(self.net, batches(made, self.machine.cells))
        self.team.average(self.others + self.muon.weights)
        nn.utils.clip_grad_norm_(self.others, 1.0)
        self.muon.step(MATRIX_RATE * factor)
        for group in self.adam.param_groups:
            group["lr"] = OTHER_RATE * factor
        self.adam.step()
        self.net.zero_grad(set_to_none=True)
        self.step += 1
        self.tokens += round(self.team.total(sum(len(ids) for ids, _ in made))[0])
        return loss, answers, length

    def log(self, losses: list[float], length: int) -> None:
        """Appends one point of the curve."""
        point = {
            "step": self.step,
            "tokens": self.tokens,
            "seconds": round(self.used),
            "cpu_seconds": round(time.process_time()),
            "length": length,
            "loss": round(float(np.mean(losses)), 4),
        }
        exact = {name: round(whole_answers(self.net, t), 3) for name, t in self.trials.items()}
        line = json.dumps(point | {"exact": exact})
        with (self.plan.out / "curve.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)


def train(plan: Plan, machine: Machine | None = None) -> None:
    """Trains until the plan is done, or SIGTERM asks to stop, logging and saving on the way."""
    torch.set_num_threads(1)
    team, machine = Together(), machine or Machine()
    if team.size > 1 and machine.device != "cpu":
        raise ValueError("several processes train on CPU alone; start one for a GPU")
    take_tokenizer(plan, team)
    run, asked = Run(plan, machine, team), list[int]()
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    losses: list[float] = []
    start, before = time.monotonic(), run.used
    logged = saved = start
    over = False
    while not over:
        loss, answers, length = run.once()
        losses.append(loss / max(1, answers))
        now = time.monotonic()
        seconds, stops = team.total(now - start, len(asked))
        run.used = before + seconds / team.size
        over = stops > 0 or plan.done(run.used, run.tokens) >= 1.0
        if team.writes and (over or now - logged > LOG_SECONDS):
            run.log(losses, length)
            losses, logged = [], now
        if team.writes and (over or now - saved > SAVE_SECONDS):
            run.save()
            saved = now
    run.supply.close()
    team.part()


def take_tokenizer(plan: Plan, team: Together) -> None:
    """Makes the tokenizer, or takes that of the checkpoint to go on from, unless it is there."""
    if team.writes and not (plan.out / "tokenizer.json").exists():
        if plan.start is None:
            build(plan.out)
        else:
            plan.out.mkdir(parents=True, exist_ok=True)
            for name in TOKENIZER_FILES:
                shutil.copyfile(plan.start / name, plan.out / name)
    team.wait()


def main() -> None:
    """Reads the command line and trains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/aquila2-demo"))
    parser.add_argument("--seconds", type=float, default=5400.0, help="wall seconds of the run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=5000, help="tokens per step and process")
    parser.add_argument("--budget", type=int, default=0, help="tokens of the run; 0: time alone")
    parser.add_argument("--init", type=Path, help="an exported checkpoint to go on from")
    parser.add_argument("--peak", type=float, default=1.0, help="factor of all learning rates")
    parser.add_argument("--window", type=int, choices=[WINDOW, 4 * WINDOW], default=WINDOW)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--makers", type=int, help="processes that make rows")
    parser.add_argument("--eager", action="store_true", help="without torch's compiler")
    parser.add_argument("--float32", action="store_true", help="compute in float32, not bfloat16")
    args = parser.parse_args()
    machine = Machine.of(args.device, args.float32, args.makers, args.eager)
    plan = Plan(
        args.out,
        args.seconds,
        args.seed,
        args.tokens,
        args.budget,
        args.init,
        args.peak,
        args.window,
    )
    train(plan, machine)


if __name__ == "__main__":
    main()
