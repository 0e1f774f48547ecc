"""Owns the training run: staged lengths, a time-bounded schedule, checkpoints and the curve."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.multiprocessing.spawn import start_processes

from .corpus import conversations, segments
from .model import Muon, Network, Shape, share
from .tokenizer import build

Row = tuple[list[int], list[int]]
MATRIX_RATE, OTHER_RATE, WARM, TEXT_WEIGHT, TEXT_SHARE = 0.02, 4e-3, 40, 0.1, 0.25


@dataclass(frozen=True)
class Plan:
    """What a run does: where it writes, for how long, with how many processes."""

    out: Path
    seconds: float
    world: int
    seed: int
    tokens: int
    budget: int

    def done(self, used: float, tokens: int) -> float:
        """Gives the fraction of the run behind us, by time or by the token budget."""
        by_tokens = tokens / self.budget if self.budget else 0.0
        return max(used / self.seconds, by_tokens)

    def stage(self, done: float) -> tuple[int, bool]:
        """Gives row length and whether plain look-up dominates, at a fraction of the run."""
        if done < 0.17:
            return 128, True
        return (256, False) if done < 0.72 else (512, False)

    def rate(self, done: float, step: int) -> float:
        """Gives the factor of the learning rates: short warm-up, flat, linear to zero."""
        return min(1.0, (step + 1) / WARM) * min(1.0, max(0.01, (1.0 - done) / 0.45))


def rows(tokenizer: Tokenizer, seed: int, length: int, early: bool, tokens: int) -> list[Row]:
    """Makes conversations worth about `tokens` tokens, each with its answer marks."""
    made: list[Row] = []
    total = 0
    for talk in conversations(seed, length, early):
        ids: list[int] = []
        marks: list[int] = []
        for text, answer in segments(talk):
            piece = tokenizer.encode(text, add_special_tokens=False).ids
            if len(ids) + len(piece) > length * 1.25:
                break
            ids += piece
            marks += [2 if answer else 1] * len(piece)
        if 2 in marks:
            made.append((ids, marks))
            total += len(ids)
        if total >= tokens:
            return made
    return made


def batches(made: list[Row], room: int) -> list[tuple[Tensor, Tensor]]:
    """Sorts rows by length and cuts them into right-padded batches of at most `room` cells."""
    groups: list[list[Row]] = [[]]
    for row in sorted(made, key=lambda r: len(r[0])):
        if groups[-1] and (len(groups[-1]) + 1) * len(row[0]) > room:
            groups.append([])
        groups[-1].append(row)
    found = []
    for group in groups:
        width = (len(group[-1][0]) + 15) // 16 * 16
        ids = np.zeros((2, len(group), width), np.int64)
        for i, (tokens, marks) in enumerate(group):
            ids[0, i, : len(tokens)] = tokens
            ids[1, i, : len(tokens)] = marks
        found.append((torch.from_numpy(ids[0]), torch.from_numpy(ids[1])))
    return found


def backward(net: Network, parts: list[tuple[Tensor, Tensor]]) -> tuple[float, int]:
    """Adds the gradients of one step; answers count fully, other text a little."""
    weight = sum(
        float((m[:, 1:] == 2).sum() + TEXT_WEIGHT * (m[:, 1:] == 1).sum()) for _, m in parts
    )
    loss, answers = 0.0, 0
    for ids, marks in parts:
        wanted = marks[:, 1:]
        some = (wanted == 1) & (torch.rand(wanted.shape) < TEXT_SHARE)
        row, at = ((wanted == 2) | some).nonzero(as_tuple=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = net(ids, row * ids.size(1) + at)
        each = F.cross_entropy(logits.float(), ids[row, at + 1], reduction="none")
        is_answer = marks[row, at + 1] == 2
        scale = torch.where(is_answer, 1.0, TEXT_WEIGHT / TEXT_SHARE)
        torch.autograd.backward((each * scale).sum() / weight)
        loss += float(each.detach()[is_answer].sum())
        answers += int(is_answer.sum())
    return loss, answers


@torch.no_grad()
def whole_answers(net: Network, parts: list[tuple[Tensor, Tensor]]) -> float:
    """Gives the share of answers whose every token, the stop included, is the likeliest one."""
    right = total = 0
    for ids, marks in parts:
        row, at = (marks[:, 1:] == 2).nonzero(as_tuple=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = net(ids, row * ids.size(1) + at)
        good = (logits.argmax(-1) == ids[row, at + 1]).tolist()
        spots = list(zip(row.tolist(), at.tolist(), good, strict=True))
        fine = True
        for i, (r, t, ok) in enumerate(spots):
            fine = fine and ok
            if i + 1 == len(spots) or spots[i + 1][:2] != (r, t + 1):
                right, total, fine = right + fine, total + 1, True
    return right / max(1, total)


class Run:
    """State of one process of a training run."""

    def __init__(self, plan: Plan, rank: int) -> None:
        """Builds the network and picks up the last checkpoint, if there is one."""
        self.plan, self.rank = plan, rank
        self.tokenizer = Tokenizer.from_file(str(plan.out / "tokenizer.json"))
        torch.manual_seed(plan.seed)
        self.net = Network(Shape(vocab=self.tokenizer.get_vocab_size()))
        named = list(self.net.named_parameters())
        matrix = [p for n, p in named if p.dim() == 2 and "embed" not in n]
        self.others = [p for n, p in named if p.dim() == 1 or "embed" in n]
        self.muon = Muon(matrix, rank, plan.world)
        self.adam = torch.optim.AdamW(self.others, betas=(0.9, 0.98), weight_decay=0.0)
        self.step, self.tokens, self.used = 0, 0, 0.0
        self.path = plan.out / "state.pt"
        if self.path.exists():
            saved = torch.load(self.path, weights_only=True)
            self.net.load_state_dict(saved["net"])
            self.muon.moments = saved["moments"]
            self.adam.load_state_dict(saved["adam"])
            self.step, self.tokens, self.used = saved["step"], saved["tokens"], saved["used"]
        torch.manual_seed(plan.seed + 1000 * (self.step + 1) + rank)
        test = rows(self.tokenizer, 99, 256, False, 25000) if rank == 0 else []
        self.test = batches(test, 4096) if test else []

    def save(self) -> None:
        """Writes everything needed to go on."""
        content = {"net": self.net.state_dict(), "moments": self.muon.moments}
        numbers = {"step": self.step, "tokens": self.tokens, "used": self.used}
        torch.save(content | {"adam": self.adam.state_dict()} | numbers, str(self.path) + ".new")
        os.replace(str(self.path) + ".new", self.path)

    def once(self) -> tuple[float, int]:
        """Makes one optimiser step."""
        plan = self.plan
        done = plan.done(self.used, self.tokens)
        length, early = plan.stage(done)
        seed = (plan.seed * 1_000_003 + self.step) * plan.world + self.rank + 1000
        made = rows(self.tokenizer, seed, length, early, plan.tokens)
        result = backward(self.net, batches(made, 4096))
        weights: list[nn.Parameter] = list(self.net.parameters())
        grads = [p.grad for p in weights if p.grad is not None]
        share(grads, plan.world)
        for grad in grads:
            grad.div_(plan.world)
        nn.utils.clip_grad_norm_(self.others, 1.0)
        factor = plan.rate(done, self.step)
        self.muon.step(MATRIX_RATE * factor)
        for group in self.adam.param_groups:
            group["lr"] = OTHER_RATE * factor
        self.adam.step()
        self.net.zero_grad(set_to_none=True)
        self.step += 1
        seen = torch.tensor([float(sum(len(ids) for ids, _ in made))])
        share([seen], plan.world)
        self.tokens += int(seen)
        return result

    def log(self, losses: list[float]) -> None:
        """Appends one point of the curve and saves."""
        point = {
            "step": self.step,
            "tokens": self.tokens,
            "seconds": round(self.used),
            "cpu_seconds": round(time.process_time()),
            "loss": round(float(np.mean(losses)), 4),
            "exact": round(whole_answers(self.net, self.test), 4),
        }
        with (self.plan.out / "curve.jsonl").open("a") as file:
            file.write(json.dumps(point) + "\n")
        print(json.dumps(point), flush=True)
        self.save()


def _work(rank: int, plan: Plan) -> None:
    torch.set_num_threads(1)
    if plan.world > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(29700 + plan.seed % 100))
        dist.init_process_group("gloo", rank=rank, world_size=plan.world)
    run = Run(plan, rank)
    losses: list[float] = []
    start, before = time.monotonic(), run.used
    logged = start
    while plan.done(run.used, run.tokens) < 1.0:
        loss, answers = run.once()
        losses.append(loss / max(1, answers))
        clock = torch.tensor([before + time.monotonic() - start], dtype=torch.float64)
        if plan.world > 1:
            dist.broadcast(clock, 0)
        run.used = float(clock)
        if rank == 0 and (time.monotonic() - logged > 45 or plan.done(run.used, run.tokens) >= 1.0):
            run.log(losses)
            losses, logged = [], time.monotonic()
    if plan.world > 1:
        dist.barrier()
        dist.destroy_process_group()


def main() -> None:
    """Reads the command line, makes the tokenizer if it is missing, and trains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/aquila2-demo"))
    parser.add_argument("--seconds", type=float, default=780.0, help="wall seconds of the run")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=3000, help="tokens per step and process")
    parser.add_argument("--budget", type=int, default=0, help="tokens of the run; 0: time alone")
    args = parser.parse_args()
    plan = Plan(args.out, args.seconds, args.processes, args.seed, args.tokens, args.budget)
    if not (plan.out / "tokenizer.json").exists():
        build(plan.out)
    if plan.world == 1:
        _work(0, plan)
    else:
        launch: Callable[..., object] = start_processes
        launch(_work, (plan,), nprocs=plan.world, start_method="spawn")


if __name__ == "__main__":
    main()
