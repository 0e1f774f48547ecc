"""Every Triton kernel compiles to machine code of real GPUs, on machines without one.

The interpreter runs what no compiler would accept, so this is the other half of the proof.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not there; it exists on Linux only")

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = """
import sys
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from aquila2_runtime.engine import fused_pointwise as pointwise
from aquila2_runtime.engine.attention import paged_decode, paged_store

def attend(kind, stored, group, splits, keep=False):
    scaled = stored == "i8"
    out = "fp32" if splits > 1 else kind
    types = {"query": kind, "keys": stored, "values": stored,
             "key_scales": "fp32" if scaled else stored,
             "value_scales": "fp32" if scaled else stored,
             "tables": "i64", "lengths": "i32", "out": out,
             "sums": "fp32" if splits > 1 or keep else "i32"}
    return paged_decode._attend_kernel, types, {"scale": "fp32", "table_stride": "i32",
        "head_places": "i32"}, {"KV_HEADS": 8, "GROUP": group,
        "GROUP_ROWS": 1 if group == 1 else 16, "HEAD_DIM": 128, "BLOCK_SIZE": 16, "TILE": 64,
        "SPLITS": splits, "QUANTIZED": scaled, "KEEP": keep}

def store(kind, stored):
    scaled = stored == "i8"
    types = {"keys": stored, "values": stored, "key_scales": "fp32" if scaled else stored,
             "value_scales": "fp32" if scaled else stored, "slots": "i64", "key": kind,
             "value": kind}
    strides = ("key_row", "key_head", "value_row", "value_head", "head_places")
    return paged_store._store_kernel, types, dict.fromkeys(strides, "i32"), {
        "HEAD_DIM": 128, "SCALED": scaled, "ROUNDER": paged_store._ROUNDER}

def plain(kernel, names, scalars, constants, kind):
    types = {name: "fp32" if name in ("cos", "sin") else kind for name in names}
    return kernel, types, scalars, constants

def sources(capability):
    for kind in ("fp16",) if capability < 80 else ("fp16", "bf16"):
        for group, splits in ((1, 8), (6, 1)):
            for stored in (kind, "i8"):
                yield attend(kind, stored, group, splits)
        yield attend(kind, kind, 1, 1, keep=True)
        yield store(kind, kind)
        yield store(kind, "i8")
        yield plain(pointwise._norm_kernel, ("hidden", "delta", "weight", "total", "normed"),
                    {"width": "i32", "eps": "fp32"}, {"ADD": True, "TILE": 4096}, kind)
        yield plain(pointwise._rotate_kernel, ("qkv", "cos", "sin", "turned"), {"rows": "i32"},
                    {"HEADS": 32, "KV_HEADS": 32, "HALF": 64}, kind)
        yield plain(pointwise._gate_kernel, ("gate_up", "gated"), {"size": "i32"},
                    {"TILE": 1024}, kind)
    yield (paged_decode._merge_kernel,
           {"partial": "fp32", "sums": "fp32", "out": "fp16", "kept": "fp32"}, {},
           {"HEAD_DIM": 128, "SPLITS": 32, "KEEP": True})

capability = int(sys.argv[1])
done = 0
for kernel, pointers, scalars, constants in sources(capability):
    signature = {name: "*" + kind for name, kind in pointers.items()} | scalars
    signature |= dict.fromkeys(constants, "constexpr")
    aligned = {(at,): [["tt.divisibility", 16]] for at in range(len(pointers))}
    ordered = {name: signature[name] for name in kernel.arg_names}
    source = ASTSource(kernel, ordered, constexprs=constants, attrs=aligned)
    built = compile(source, target=GPUTarget("cuda", capability, 32))
    assert len(built.asm["cubin"]) > 1000
    done += 1
print(done)
"""


@pytest.mark.timeout(320)
@pytest.mark.parametrize(
    "capability",
    [pytest.param(75, marks=pytest.mark.slow), pytest.param(80, marks=pytest.mark.slow), 90],
)
def test_every_kernel_compiles_for_a_gpu(capability: int, tmp_path: Path) -> None:
    """Turing (half precision only), Ampere and Hopper."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {
        "TRITON_CACHE_DIR": str(tmp_path),
        "TRITON_DEFAULT_FP_FUSION": "1",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(capability)],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) >= 11


VARYING = """
from aquila2_runtime.engine import fused_pointwise
from aquila2_runtime.engine.attention import paged_decode

for kernel, varying in (
    (paged_decode._attend_kernel, "table_stride"), (fused_pointwise._rotate_kernel, "rows")
):
    assert [param.name for param in kernel.params if param.do_not_specialize] == [varying]
"""


def test_numbers_that_vary_from_step_to_step_build_no_kernels_of_their_own() -> None:
    """A build takes a second or two, in which no request gets on."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", VARYING],
        capture_output=True,
        text=True,
        timeout=100,
        env=environment | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
