"""Compiles Triton kernels for an H100 or H200 where there is none; run it in a process of its own, not interpreted.

python tests/sm90.py neurcomp_core.nets.triton_cubes:forward_cubes '{"points": "*fp32", ...}' '{"TILE": 128}'
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

#: Bytes of shared memory that a block of threads can have.
SHARED = 227 * 1024


def compiled(name: str, signature: dict[str, str], constants: dict[str, Any], **options: int) -> Any:
    """A kernel ``module:function`` as machine code; pointers and ``n`` are taken to be multiples of 16."""
    module, _, function = name.partition(":")
    kernel = getattr(import_module(module), function)
    # Types are written as texts: {"OPERAND": "tl.float16"}.
    values = {k: getattr(tl, v[3:]) if str(v).startswith("tl.") else v for k, v in constants.items()}
    types = {k: "constexpr" if k in values else signature[k] for k in kernel.arg_names}
    at = {k: (i,) for i, k in enumerate(kernel.arg_names)}
    aligned = {at[k]: [["tt.divisibility", 16]] for k, t in types.items() if t.startswith("*") or k == "n"}
    source = ASTSource(kernel, types, {at[k]: v for k, v in values.items()}, aligned)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)


if __name__ == "__main__":
    found = compiled(sys.argv[1], *map(json.loads, sys.argv[2:4]), **json.loads(" ".join(sys.argv[4:]) or "{}"))
    print(json.dumps({"shared": found.metadata.shared, "cubin": len(found.asm["cubin"]), "ptx": found.asm["ptx"]}))
