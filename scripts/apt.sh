#!/usr/bin/env bash
# Installs Debian's packages where a program of theirs is missing: apt.sh WHO PROGRAM PACKAGES..., WHO needing it to run.
# No service is started. Where this cannot be done, says what to install.
set -euo pipefail

who=$1 program=$2
shift 2

if ! command -v apt-get >/dev/null; then
    echo "setup: $who need '$program' on the PATH; install it with your system's packages" >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    echo "setup: $who need $program: sudo apt-get install $1" >&2
    exit 1
fi
echo "setup: Debian's $program"
log=$(mktemp)
policy=/usr/sbin/policy-rc.d # what it says is asked before a package starts its service
trap 'rm -f "$log" ${made:+"$policy"}' EXIT
if [ ! -e "$policy" ]; then
    made=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update && apt-get install -y --no-install-recommends "$@"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "setup: apt-get could not install $program (its last words are above)" >&2
    exit 1
fi
