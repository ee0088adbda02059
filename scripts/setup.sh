#!/usr/bin/env bash
# Makes .venv at the root of the checkout and installs into it, with the versions of constraints.txt:
#   scripts/setup.sh run    what using millrace needs (the default)
#   scripts/setup.sh dev    the same, and what its checks and tests need
#   scripts/setup.sh bench  the same, and what it is compared with
# A second call returns at once, until pyproject.toml, constraints.txt or this file change.
set -euo pipefail
cd "$(dirname "$0")/.."

level=${1:-run}
case "$level" in
run) extras=all ;;
dev) extras=all,dev ;;
bench) extras=all,dev,bench ;;
*) echo "usage: scripts/setup.sh [run|dev|bench]" >&2 && exit 2 ;;
esac

python=.venv/bin/python
stamp=.venv/setup-stamp # the levels installed, one a line, each with the key of what it was installed from

say() { echo "setup: $*"; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3.11 python3 python3.12 python3.13; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    say "Python 3.11 or later was not found; install it, or name it: PYTHON=/path/to/python3.11 make setup" >&2
    return 1
}

make_venv() {
    local base
    base=$(find_python)
    if ! "$base" -c 'import ensurepip, venv' 2>/dev/null; then
        if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
            say "Debian's python3-venv"
            apt-get update -qq >/dev/null
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
        else
            say "$base cannot make virtual environments; on Debian: sudo apt-get install python3-venv" >&2
            return 1
        fi
    fi
    say ".venv with $("$base" --version)"
    "$base" -m venv --clear .venv
}

install() {
    "$python" -m pip install --quiet --quiet --no-input --disable-pip-version-check --constraint constraints.txt "$@"
}

key=$({ cat pyproject.toml constraints.txt scripts/setup.sh && pwd; } | sha256sum | cut -c 1-16)
if [ -x "$python" ] && grep -qsxE "($level|bench${also:-}) $key" "$stamp"; then
    exit 0
fi

started=$SECONDS
home=$(sed -n 's/^root //p' "$stamp" 2>/dev/null || true)
if ! "$python" -c '' 2>/dev/null || [ "${home:-$PWD}" != "$PWD" ]; then
    make_venv
fi
# PyTorch alone and first: its exact version is met by a CPU build where one is at hand, while a range, met
# together with everything else, would fetch gigabytes.
torch=$(grep '^torch==' constraints.txt)
held=$("$python" -c 'from importlib.metadata import version; print(version("torch").partition("+")[0])' 2>/dev/null || true)
if [ "$torch" != "torch==$held" ]; then
    say "$torch (the largest part, it takes some minutes)"
    install "$torch"
fi
say "millrace[$extras]"
install "$(grep '^setuptools==' constraints.txt)"
install --no-build-isolation --editable ".[$extras]"
{
    echo "root $PWD"
    { grep -sE " $key\$" "$stamp" || true; } # the other level stays good
    echo "$level $key"
} >"$stamp.new"
mv "$stamp.new" "$stamp"
say "done in $((SECONDS - started)) s"
