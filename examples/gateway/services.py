"""What a request needs of the gateway: made once at start-up, carried in the request's state."""

from typing import Annotated, Final

from fastapi import Depends
from starlette.requests import HTTPConnection

from .cache import CacheStatus, TtlCache
from .keys import Entitlement
from .limits import RateLimiter
from .providers import ProviderError, Providers

QUOTES_PROVIDER: Final = "yahoo-finance"

Quote = dict[str, str | float]


class Services:
    """The providers, the caches in front of them, and the rate limiter."""

    def __init__(self, providers: Providers) -> None:
        self.providers = providers
        self.limiter = RateLimiter()
        self.quotes: TtlCache[Quote] = TtlCache(ttl=1.0, stale=10.0)
        self._entitlements: TtlCache[Entitlement] = TtlCache(ttl=5.0)

    async def load_quote(self, symbol: str, found: CacheStatus) -> Quote | None:
        """A quote from its provider, stored in the cache. None: there is no such symbol.

        ``found`` is what the cache said before.

        Raises:
            ProviderError: the provider did not answer.

        """
        names = {"provider": QUOTES_PROVIDER, "operation": "quote", "cache_status": found.value}
        answer = await self.providers.call(names, f"/quotes/{symbol}")
        quote: Quote | None = answer.json() if answer.status_code == 200 else None
        self.quotes.put(symbol, quote)
        return quote

    async def entitlement_of(self, customer: str) -> Entitlement | None:
        """What the customer has subscribed to. None: that cannot be read now, which says nothing about the customer."""
        found = self._entitlements.get(customer)
        if found.status is CacheStatus.FRESH:
            return found.value
        try:
            names = {"provider": "entitlements", "operation": "lookup", "cache_status": found.status.value}
            answer = await self.providers.call(names, f"/entitlements/{customer}")
        except ProviderError:
            return None
        entitlement = Entitlement(**answer.json())
        self._entitlements.put(customer, entitlement)
        return entitlement


async def services_of(connection: HTTPConnection) -> Services:
    """The services that the application's lifespan made."""
    services: Services = connection.state.services
    return services


Gateway = Annotated[Services, Depends(services_of)]
"""The parameter of a handler that needs them."""
