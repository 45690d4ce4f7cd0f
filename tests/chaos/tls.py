"""TLS in front of the sink: terminated here with a certificate of a test CA, and passed on in the clear."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import trustme

HANDSHAKE_SECONDS: Final = 10.0


class Wire(Enum):
    """What a client meets that connects."""

    TRUSTED = "a certificate of the CA that it trusts"
    UNTRUSTED = "a certificate of a CA that it does not know"
    STALLED = "silence: its handshake is never answered"


class TlsForwarder:
    """Forwards connections to ``target`` and has a thread for each direction. Changing what it is drops them all, since
    a client would else stay on a connection from better days.
    """

    def __init__(self, target: int, ca_file: Path) -> None:
        """``target``: a port of loopback. ``ca_file``: where the certificate of the trusted CA is written to."""
        import trustme  # only where TLS is asked for: all other faults need no certificates

        self._target = target
        self._wire = Wire.TRUSTED
        trusted = trustme.CA()
        trusted.cert_pem.write_to_path(str(ca_file))
        self._contexts = {Wire.TRUSTED: _context(trusted), Wire.UNTRUSTED: _context(trustme.CA())}
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        threading.Thread(target=self._accept, name="chaos-tls", daemon=True).start()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._listener.getsockname()[1]}"

    def be(self, wire: Wire) -> None:
        with self._lock:
            changed, self._wire = wire is not self._wire, wire
            dropped = list(self._open) if changed else []
        for connection in dropped:
            _drop(connection)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                wire = self._wire
                self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection, wire), name="chaos-tls", daemon=True).start()

    def _serve(self, connection: socket.socket, wire: Wire) -> None:
        try:
            with connection:
                if wire is Wire.STALLED:
                    _wait_for_the_end(connection)
                else:
                    self._forward(connection, self._contexts[wire])
        except OSError:
            pass  # the client went away, did not like the certificate, or was dropped
        finally:
            with self._lock:
                self._open.discard(connection)

    def _forward(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        connection.settimeout(HANDSHAKE_SECONDS)
        with (
            context.wrap_socket(connection, server_side=True) as client,
            socket.create_connection(("127.0.0.1", self._target)) as server,
        ):
            client.settimeout(None)
            with self._lock:  # wrapping has detached the first socket
                self._open.discard(connection)
                self._open.add(client)
            try:
                back = threading.Thread(target=_pump, args=(server, client), name="chaos-tls", daemon=True)
                back.start()
                _pump(client, server)
                back.join()
            finally:
                with self._lock:
                    self._open.discard(client)


def _context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError, ValueError):
        while data := source.recv(65536):
            target.sendall(data)
    # Either end's end is the end of both: HTTP needs no half-open connections here.
    for sock in (source, target):
        _drop(sock)


def _wait_for_the_end(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def _drop(connection: socket.socket) -> None:
    with suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
