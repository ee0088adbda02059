"""A real nginx in front of a server, with the very configuration of docs/deploy/nginx.conf."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.leaks import eventually
from tests.support.servers import ROOT, end, free_port, listens

CONFIGURATION = ROOT / "docs" / "deploy" / "nginx.conf"

MAIN = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log info;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/site.conf;
}}
"""


@contextmanager
def nginx(to: int, directory: Path) -> Iterator[int]:
    """Puts nginx in front of the port `to` until the block is left; gives its own port."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    assert program is not None, "there is no nginx; scripts/nginx.sh installs it"
    port = free_port()
    site = CONFIGURATION.read_text(encoding="utf-8")
    for given, here in {
        "server 127.0.0.1:8000;": f"server 127.0.0.1:{to};",
        "listen 80;": f"listen 127.0.0.1:{port};",
    }.items():
        assert site.count(given) == 1
        site = site.replace(given, here)
    (directory / "site.conf").write_text(site, encoding="utf-8")
    main = directory / "nginx.conf"
    main.write_text(MAIN.format(directory=directory), encoding="utf-8")
    log = directory / "error.log"
    process = subprocess.Popen(
        [program, "-p", str(directory), "-e", str(log), "-c", str(main)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(
            lambda: process.poll() is not None or listens(port),
            20,
            lambda: log.read_text() if log.exists() else "",
        )
        assert process.poll() is None, log.read_text()
        yield port
    finally:
        end(process)
