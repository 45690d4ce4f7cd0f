"""A name server that knows one name, which has several addresses, as a Service without a cluster's address has."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Final

from tests.needs import needed_low_port

ADDRESS: Final = "127.0.0.9"
"""Where it is asked: on port 53, since the Collector takes no other."""
_ANSWER, _A, _IN = 0x8580, 1, 1


@contextmanager
def name_server(addresses: Sequence[str]) -> Iterator[str]:
    """Answers every question for an address with all of these, for the length of the block. Yields where it is."""
    with closing(needed_low_port(ADDRESS, 53)) as server:
        thread = threading.Thread(target=_serve, args=(server, addresses), name="test-names", daemon=True)
        thread.start()
        try:
            yield ADDRESS
        finally:
            server.sendto(b"", (ADDRESS, 53))  # wakes it; a question has a length
            thread.join(10)
            assert not thread.is_alive()


def _serve(server: socket.socket, addresses: Sequence[str]) -> None:
    while True:
        asked, whom = server.recvfrom(512)
        if not asked:
            return
        server.sendto(_answer(asked, addresses), whom)


def _answer(asked: bytes, addresses: Sequence[str]) -> bytes:
    """What RFC 1035 has for it: the question again, and a record for each address. Of other kinds there is none."""
    end = asked.index(b"\0", 12) + 5
    question = asked[12:end]
    known = addresses if question[-4:] == _A.to_bytes(2) + _IN.to_bytes(2) else ()
    records = b"".join(
        b"\xc0\x0c" + _A.to_bytes(2) + _IN.to_bytes(2) + (5).to_bytes(4) + (4).to_bytes(2) + socket.inet_aton(address)
        for address in known
    )
    counts = (1, len(known), 0, 0)
    return asked[:2] + _ANSWER.to_bytes(2) + b"".join(count.to_bytes(2) for count in counts) + question + records
