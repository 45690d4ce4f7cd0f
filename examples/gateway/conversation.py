"""One WebSocket connection of the demonstration. The only module that needs the package ``websockets``."""

import asyncio
from dataclasses import dataclass
from typing import Final

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.typing import Origin

from .callers import KEY_HEADER, Caller

_MESSAGES: Final = ("one", "two", "three")


class ConversationError(Exception):
    """The connection broke on the way."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """How the server answered the handshake."""

    status: int
    """101 if it agreed."""
    headers: dict[str, str]
    size: int
    """Bytes of the messages that came back, or of the body of a refusal."""


async def converse(url: str, caller: Caller, timeout: float) -> Handshake:
    """Connect, send three messages, read their echoes, hang up. ``timeout`` is for all of it, in seconds.

    Raises:
        ConversationError: the connection broke.
        OSError: there was no connection, or no end within the time.

    """
    headers = {KEY_HEADER: caller.key} if caller.key else {}
    origin = Origin(caller.origin) if caller.origin else None
    try:
        async with (
            asyncio.timeout(timeout),
            connect(url, additional_headers=headers, origin=origin, proxy=None) as peer,
        ):
            size = 0
            for message in _MESSAGES:
                await peer.send(message)
                size += len(await peer.recv())
            return Handshake(101, dict(peer.response.headers.raw_items()) if peer.response else {}, size)
    except InvalidStatus as refused:
        answer = refused.response
        return Handshake(answer.status_code, dict(answer.headers.raw_items()), len(answer.body or b""))
    except WebSocketException as error:
        raise ConversationError(str(error)) from error
