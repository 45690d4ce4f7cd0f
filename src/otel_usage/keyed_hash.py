"""Keyed hashes of credentials and the like, which name the key they were made with."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import Final

from .keys import named_key, stretched

CACHE_SIZE: Final = 8192
"""Hashes that are remembered at most. A miss costs under a microsecond."""

CACHE_LENGTH: Final = 512
"""Characters of the longest value whose hash is remembered: a client chooses how long its headers are."""


class KeyedHash:
    """A keyed hash (BLAKE2b, 16 bytes) that names its key, so that a pepper can be rotated.

    Unkeyed hashes of ids can be guessed by hashing every id; without the pepper this one cannot.
    """

    __slots__ = ("_digest", "key_id")

    def __init__(self, pepper: str) -> None:
        """``pepper`` is ``id:secret``, or a secret, whose id is then derived from it."""
        named = named_key(pepper)
        self.key_id = named.key_id
        key = stretched(named.secret)

        @lru_cache(maxsize=CACHE_SIZE)
        def digest(value: str) -> str:
            hashed = blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16, key=key)
            return f"{named.key_id}:{hashed.hexdigest()}"

        self._digest = digest

    def __call__(self, value: str) -> str:
        """``key id:hex digest`` of ``value``."""
        return self._digest(value) if len(value) <= CACHE_LENGTH else self._digest.__wrapped__(value)
