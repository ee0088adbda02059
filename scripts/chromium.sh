#!/usr/bin/env bash
# Installs Debian's chromium, which the browser tests drive, if there is none yet.
set -euo pipefail

command -v chromium >/dev/null && exit 0

if ! command -v apt-get >/dev/null; then
    echo "setup: the browser tests need a 'chromium' on the PATH; install it with your system's packages" >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    echo "setup: the browser tests need chromium: sudo apt-get install chromium" >&2
    exit 1
fi
echo "setup: Debian's chromium"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update && apt-get install -y --no-install-recommends chromium fonts-dejavu-core; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "setup: apt-get could not install chromium (its last words are above)" >&2
    exit 1
fi
