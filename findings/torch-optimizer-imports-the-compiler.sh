#!/usr/bin/env bash
# torch imports its compiler to make an optimizer, and a computer algebra system to take a gradient.
#
# Expected: eager training needs neither. Making torch.optim.SGD, calling output.backward(gradient), counting
# operations and tracing a shape on the meta device import nothing that `import torch` has not imported.
# Seen, 2026-11-30, torch 2.13.0 on a CPU: torch.optim.SGD(...) imports torch._dynamo and SymPy, more than 700
# modules; output.backward(gradient) imports SymPy, to compare two shapes, loss.backward() does not; a
# FlopCounterMode and any TorchDispatchMode import torch._dynamo; a convolution on the meta device imports SymPy.
# torch.optim.sgd.sgd, which the class calls, imports none of it. In a job of many short-lived ranks each pays.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat > imports.py <<'PY'
import subprocess
import sys

BEGIN = """
import sys, torch
from torch import nn
from torch.optim.sgd import sgd
from torch.utils.flop_counter import FlopCounterMode
before = len(sys.modules)
weight = nn.Parameter(torch.ones(3))
"""
END = """
print("torch._dynamo" in sys.modules, "sympy" in sys.modules, len(sys.modules) - before)
"""
SGD = "weight_decay=0.0, momentum=0.9, lr=0.1, dampening=0.0, nesterov=False, maximize=False"
CASES = {
    "loss.backward()": ("(weight * 2).sum().backward()", (False, False)),
    "sgd(...)": (f"sgd([weight.data], [torch.ones(3)], [None], {SGD})", (False, False)),
    "SGD(...)": ("torch.optim.SGD([weight], lr=0.1)", (True, True)),
    "output.backward(gradient)": ("(weight * 2).backward(torch.ones(3))", (False, True)),
    "FlopCounterMode": (
        "with FlopCounterMode(display=False):\n    torch.ones(2, 2) @ torch.ones(2, 2)",
        (True, True),
    ),
    "meta convolution": (
        "nn.functional.conv2d(torch.empty(1, 1, 4, 4, device='meta'),"
        " torch.empty(1, 1, 3, 3, device='meta'))",
        (False, True),
    ),
}
for name, (what, expected) in CASES.items():
    out = subprocess.run(
        [sys.executable, "-c", BEGIN + what + END], capture_output=True, text=True, check=True
    ).stdout.split()
    print(f"{name}: torch._dynamo {out[0]}, sympy {out[1]}, {out[2]} more modules")
    assert (out[0] == "True", out[1] == "True") == expected, name
    assert expected != (True, True) or int(out[2]) > 700, name
PY
env/bin/python imports.py
