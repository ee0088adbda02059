#!/usr/bin/env bash
# Installs Debian's nginx, which the tests put in front of a service, if there is none yet. It is not started.
set -euo pipefail

PATH=$PATH:/usr/sbin:/usr/local/sbin
command -v nginx >/dev/null && exit 0

if ! command -v apt-get >/dev/null; then
    echo "setup: the tests of the reverse proxy need an 'nginx' on the PATH; install it with your system's packages" >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    echo "setup: the tests of the reverse proxy need nginx: sudo apt-get install nginx-light" >&2
    exit 1
fi
echo "setup: Debian's nginx"
log=$(mktemp)
policy=/usr/sbin/policy-rc.d # what it says is asked before a package starts its service
trap 'rm -f "$log" ${made:+"$policy"}' EXIT
if [ ! -e "$policy" ]; then
    made=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update && apt-get install -y --no-install-recommends nginx-light; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "setup: apt-get could not install nginx (its last words are above)" >&2
    exit 1
fi
