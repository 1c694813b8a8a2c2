#!/usr/bin/env bash
# safetensors' writer makes a file of no tensors and empty metadata that its reader refuses.
#
# Expected: {} with metadata {} is read back as {}, as no tensors without metadata are.
# Seen, 2026-11-29, safetensors 0.8.0: the header is '{},"__metadata__":{}}', which is not JSON. A checkpoint of
# a stage without parameters (an activation, a flatten) is such a file.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
cat > write.py <<'PY'
from safetensors import SafetensorError
from safetensors.numpy import load, save

assert load(save({})) == {}
written = save({}, {})
print(written[8:])
assert written[8:].rstrip() == b'{},"__metadata__":{}}'
try:
    load(written)
except SafetensorError as error:
    print(error)
else:
    raise SystemExit("it was read")
PY
env/bin/python write.py
