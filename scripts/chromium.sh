#!/usr/bin/env bash
# Installs Debian's chromium, which the browser tests drive, if there is none yet.
set -euo pipefail

command -v chromium >/dev/null || exec "$(dirname "$0")/apt.sh" "the browser tests" chromium chromium fonts-dejavu-core
