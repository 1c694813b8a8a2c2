#!/usr/bin/env bash
# model-signing imports OpenSSL (pyOpenSSL), which it does not ask for: as installed, its command does not start.
#
# Expected: what `pip install model-signing` installs is what `model_signing verify key` needs.
# Seen, 2026-11-30, model-signing 1.1.1: ModuleNotFoundError: No module named 'OpenSSL'. With pyOpenSSL beside it, it works.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check model-signing==1.1.1
if env/bin/model_signing verify key --help > said 2>&1; then
    echo "it starts now"
    exit 1
fi
tail -1 said
grep -q "No module named 'OpenSSL'" said
