"""TLS in front of the sink: terminated here with a certificate of a test CA, and passed on in the clear."""

from __future__ import annotations

import asyncio
import ssl
import threading
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
    """Forwards connections to ``target``, on an event loop of its own: one thread cannot read a TLS connection while
    another writes to it. When it turns bad it drops every connection, since a client would else stay on one from better
    days. When it is well again, a handshake that has stalled stays so: nobody tells the client in real life either.
    """

    def __init__(self, target: int, ca_file: Path) -> None:
        """``target``: a port of loopback. ``ca_file``: where the certificate of the trusted CA is written to."""
        import trustme  # only where TLS is asked for: all other faults need no certificates

        self._target = target
        self._wire = Wire.TRUSTED
        trusted = trustme.CA()
        trusted.cert_pem.write_to_path(str(ca_file))
        self._contexts = {Wire.TRUSTED: _context(trusted), Wire.UNTRUSTED: _context(trustme.CA())}
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="chaos-tls", daemon=True).start()
        listening = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def be(self, wire: Wire) -> None:
        """What clients meet from now on; it holds when this returns."""
        asyncio.run_coroutine_threadsafe(self._be(wire), self._loop).result()

    async def _be(self, wire: Wire) -> None:
        self._wire = wire
        for writer in list(self._open) if wire is not Wire.TRUSTED else ():
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if self._wire is Wire.STALLED:
                await _pump(reader, None)
            else:
                await writer.start_tls(self._contexts[self._wire], ssl_handshake_timeout=HANDSHAKE_SECONDS)
                await self._forward(reader, writer)
        except (OSError, EOFError):
            pass  # the client went away, or did not like the certificate
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_sink, to_sink = await asyncio.open_connection("127.0.0.1", self._target)
        pumps = {asyncio.create_task(_pump(reader, to_sink)), asyncio.create_task(_pump(from_sink, writer))}
        try:  # either end's end is the end of both: HTTP needs no half-open connections here
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            to_sink.transport.abort()


def _context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter | None) -> None:
    """From ``source`` to ``target``, if any, until either is gone."""
    while data := await source.read(65536):
        if target is not None:
            target.write(data)
            await target.drain()
