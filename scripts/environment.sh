# Sourced by the scripts beside it: makes the repository's own virtual environment when it is missing or out of date.
# Usage: . scripts/environment.sh; make_environment requirements.lock
# Defines: PYTHON, the interpreter of the environment.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
PYTHON=.venv/bin/python

find_python() {
    local candidate
    for candidate in "${MESHWIRE_PYTHON:-}" python3 python3.13 python3.12 python3.11; do
        [ -n "$candidate" ] || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    echo "meshwire needs Python 3.11 or newer; none of python3, python3.13, python3.12, python3.11 is." >&2
    echo "do: install one (Debian 12: apt-get install python3 python3-venv), or name it in MESHWIRE_PYTHON" >&2
    return 1
}

# $1: the lock file to install from. Nothing is done when that has been done for this very lock file.
make_environment() {
    local lock=$1 stamp base
    stamp=".venv/.installed-$(cat "$lock" pyproject.toml | cksum | tr ' ' '-')-$lock"
    [ -e "$stamp" ] && return
    base=$(find_python) || return 1
    echo "Installing meshwire into .venv (once, from $lock) …" >&2
    if command -v uv >/dev/null 2>&1; then
        [ -x "$PYTHON" ] || uv venv --quiet --python "$base" .venv || return 1
        uv pip install --quiet --python "$PYTHON" --require-hashes -r "$lock" || return 1
        uv pip install --quiet --python "$PYTHON" --no-deps --editable . || return 1
    else
        [ -x "$PYTHON" ] || "$base" -m venv .venv || return 1
        "$PYTHON" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock" || return 1
        "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-deps --editable . || return 1
    fi
    touch "$stamp"
}
