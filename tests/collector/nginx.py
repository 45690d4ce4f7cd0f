"""nginx with collector-config/failover.conf.template, on loopback."""

from __future__ import annotations

import getpass
import string
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.needs import needed_program
from tests.servers import free_port, server_process

TEMPLATE: Final = Path(__file__).parents[2] / "collector-config" / "failover.conf.template"
_MAIN: Final = """
daemon off;
user $user;
worker_processes 1;
pid $directory/nginx.pid;
error_log stderr warn;
events {}
http {
    client_body_temp_path $directory/body;
    proxy_temp_path $directory/proxy;
    fastcgi_temp_path $directory/fastcgi;
    uwsgi_temp_path $directory/uwsgi;
    scgi_temp_path $directory/scgi;
    include $directory/failover.conf;
}
"""


@contextmanager
def failover(directory: Path, primary: str, primary_token: str, second: str, second_token: str) -> Iterator[str]:
    """Run it between two backends. Yields its URL."""
    program = needed_program("nginx")
    port = free_port()
    filled = string.Template(TEMPLATE.read_text()).safe_substitute(
        FAILOVER_LISTEN=f"127.0.0.1:{port}",
        FAILOVER_RESOLVER="127.0.0.1",  # every name here is an address
        FAILOVER_CA="/etc/ssl/certs/ca-certificates.crt",
        PRIMARY_URL=primary,
        PRIMARY_TOKEN=primary_token,
        SECOND_URL=second,
        SECOND_TOKEN=second_token,
    )
    (directory / "failover.conf").write_text(filled)
    main = directory / "nginx.conf"
    main.write_text(string.Template(_MAIN).substitute(directory=directory, user=getpass.getuser()))
    with server_process([program, "-p", str(directory), "-c", str(main), "-e", "stderr"], port, directory):
        yield f"http://127.0.0.1:{port}"
