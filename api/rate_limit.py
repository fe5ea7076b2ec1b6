"""How often a client may ask: a token bucket for each, in the memory of one API process."""

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

_MOST_CLIENTS = 10_000
_S_PER_MIN = 60.0


@dataclass
class _Bucket:
    tokens: float
    filled_at_s: float


class RateLimiter:
    """Lets each client ask so many times a minute, all at once or spread over it.

    Parameters
    ----------
    per_minute
        Requests a minute.
    clock
        Gives seconds that never go backwards.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = monotonic) -> None:
        self._capacity = float(per_minute)
        self._per_second = per_minute / _S_PER_MIN
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def wait_s(self, client: str) -> int:
        """Count a request; give 0 where it is allowed, else whole seconds until the next one is."""
        now_s = self._clock()
        bucket = self._buckets.pop(client, None) or _Bucket(self._capacity, now_s)
        # Those who asked last are at the end; the memory of whoever has long been silent goes first.
        self._buckets[client] = bucket
        if len(self._buckets) > _MOST_CLIENTS:
            self._buckets.popitem(last=False)
        bucket.tokens = min(self._capacity, bucket.tokens + (now_s - bucket.filled_at_s) * self._per_second)
        bucket.filled_at_s = now_s
        if bucket.tokens < 1.0:
            return max(1, math.ceil((1.0 - bucket.tokens) / self._per_second))
        bucket.tokens -= 1.0
        return 0


def client_group(host: str) -> str:
    """Name whom a limit holds for: an address, of IPv6 the network of 64 bits, which is what one client is given."""
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
            return str(ipaddress.ip_network((address, 64), strict=False))
    return host
