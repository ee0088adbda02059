#!/usr/bin/env bash
# Installs Debian's nginx, which the tests put in front of a service, if there is none yet. It is not started.
set -euo pipefail

PATH=$PATH:/usr/sbin:/usr/local/sbin
command -v nginx >/dev/null || exec "$(dirname "$0")/apt.sh" "the tests of the reverse proxy" nginx nginx-light
