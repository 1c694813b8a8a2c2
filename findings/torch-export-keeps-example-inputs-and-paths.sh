#!/usr/bin/env bash
# A program of torch.export holds the example inputs it was traced with, and the paths of the code it was traced from.
#
# Expected: a saved program (.pt2) holds a graph and weights; the example inputs only tell shapes and types, and a
# sample of private data used as one stays at home; nothing in the file names folders of the machine that wrote it.
# Seen, 2026-11-30, torch 2.13.0 on a CPU: loading gives the example inputs back, every value of them, as
# program.example_inputs; and the archive names the file of the model's class with its absolute path. Giving
# torch.zeros(...) as example, and taking stack_trace and its kin out of the nodes' meta before saving, keeps both out.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
mkdir folder-of-the-owner
cat > folder-of-the-owner/network.py <<'PY'
import torch


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)

    def forward(self, rows):
        return torch.relu(self.linear(rows))
PY
cat > export.py <<'PY'
import sys
import warnings
import zipfile

import torch

warnings.simplefilter("ignore")
sys.path.insert(0, "folder-of-the-owner")
from network import Network

private = torch.tensor([[36.6, 71.0, 128.0]])
ORIGINS = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")


def saved(name, example, clean):
    program = torch.export.export(Network().eval(), (example,))
    if clean:
        for node in program.graph_module.graph.nodes:
            for key in ORIGINS:
                node.meta.pop(key, None)
    torch.export.save(program, name)
    with zipfile.ZipFile(name) as archive:
        content = b"".join(archive.read(one) for one in archive.namelist())
    return torch.export.load(name), content.count(b"folder-of-the-owner")


print("torch", torch.__version__)
for name, example, clean in (("plain.pt2", private, False), ("clean.pt2", torch.zeros(1, 3), True)):
    program, paths = saved(name, example, clean)
    (found,), _ = program.example_inputs
    print(f"{name}: example inputs {found.tolist()}, names the folder of the code {paths} times")
    assert torch.equal(found, example)
    assert (paths == 0) == clean
PY
env/bin/python export.py
