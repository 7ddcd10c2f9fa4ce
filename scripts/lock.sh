#!/usr/bin/env bash
# Resolves requirements.lock from pyproject.toml (with the extra dev): the newest allowed versions,
# one file for Python 3.11 and later on all platforms, with the hashes of every published file and
# without addresses. Versions already locked stay unless `UPGRADE=1 make lock`.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ ! -x .cache/uv/bin/uv ]]; then
    .venv/bin/python -m pip --disable-pip-version-check install -q --target .cache/uv uv
fi
.cache/uv/bin/uv pip compile -q pyproject.toml --extra dev -o requirements.lock \
    --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
    ${UPGRADE:+--upgrade}
if grep -nE '://|^--|@ ' requirements.lock; then
    echo "requirements.lock must not hold addresses or options" >&2
    exit 1
fi
