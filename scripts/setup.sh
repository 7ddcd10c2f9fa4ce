#!/usr/bin/env bash
# Makes .venv with everything in requirements.lock and this repository itself, as any user, on a
# machine with Python 3.11 or later and package mirrors. Quick when nothing has changed.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { printf 'setup: error: %s\n' "$*" >&2; exit 3; }

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "Deltatape needs Python 3.11 or later: install python3, or name one with PYTHON=/path/to/python make setup"
}

# Debian's python3 comes without pip and ensurepip. pip's own wheel is in the machine's archive; a
# private apt state fetches it without root and leaves the machine's as it is.
fetch_pip() {
    local state=$1
    command -v apt-get >/dev/null || fail "this Python has no pip (ensurepip is missing): install it"
    say "fetching pip from this machine's package archive"
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    local options=(-q -o "Dir::State::lists=$state/lists" -o "Dir::Cache=$state/cache"
        -o APT::Sandbox::User=root -o APT::Update::Post-Invoke-Success= -o Acquire::Languages=none
        -o Acquire::Retries=3)
    {
        apt-get "${options[@]}" update &&
            (cd "$state" && apt-get "${options[@]}" download python3-pip-whl) &&
            dpkg-deb --extract "$state"/python3-pip-whl_*.deb "$state/root"
    } >"$state/log" 2>&1 || {
        tail -n 5 "$state/log" >&2
        fail "cannot fetch python3-pip-whl: install python3-venv, then run make setup again"
    }
}

make_venv() {
    local python=$1
    say "making .venv with $("$python" --version) ($python)"
    if "$python" -m venv --clear .venv >/dev/null 2>&1; then
        return
    fi
    "$python" -m venv --clear --without-pip .venv || fail "$python cannot make a virtual environment"
    local state wheel
    state=$(mktemp -d)
    trap 'rm -rf "$state"' RETURN
    fetch_pip "$state"
    wheel=$(echo "$state"/root/usr/share/python-wheels/pip-*.whl)
    .venv/bin/python "$wheel/pip" install -q --no-index "$wheel"
}

# One line for every tenth package instead of pip's four for each.
progress() {
    awk '
        /^Collecting / { if (++count % 10 == 0) printf "setup: %d packages fetched\n", count }
        /^Installing collected/ { print "setup: unpacking them" }
        { fflush() }' >&2
}

inputs=$(cat requirements.lock pyproject.toml scripts/setup.sh | sha256sum; pwd)
stamp=.venv/.setup
if [[ -x .venv/bin/python && -f $stamp && $(<"$stamp") == "$inputs" ]] && .venv/bin/python -c ''; then
    exit
fi

say "Deltatape in $PWD"
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    make_venv "$(find_python)"
fi
say "installing what requirements.lock lists (about 120 packages)"
pip=(.venv/bin/python -m pip --disable-pip-version-check install --progress-bar off)
"${pip[@]}" --require-hashes --only-binary :all: -r requirements.lock | progress
"${pip[@]}" -q --no-deps --no-build-isolation --editable .
printf '%s\n' "$inputs" >"$stamp"
say "done: .venv/bin/deltatape --help"
