"""How often a key may be guessed: so many attempts that fail per minute from one address, and from all together."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable

from hodios.accounts.gcra import Gcra, Quota
from hodios.errors import RateLimited

FROM_ONE, FROM_ALL = 10, 100
"""Per minute."""
MOST_ADDRESSES = 10_000
_NETWORK_BITS = 64
"""Of IPv6 addresses, the rest of which anybody chooses freely."""


class Guesses:
    """Of one process. `monotonic` gives seconds from anywhere."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._all = Gcra(Quota(FROM_ALL))
        self._by_network: OrderedDict[str, Gcra] = OrderedDict()

    def count(self, address: str) -> None:
        """Before an attempt, which counts as failed until it is forgiven. Raises RateLimited."""
        now_ns = self._now_ns()
        one = self._of(address)
        wait_ns = max(one.wait_ns(now_ns), self._all.wait_ns(now_ns))
        if wait_ns > 0:
            raise RateLimited(
                "too many attempts to log in have failed; wait, or make a one-time link with: hodios ui",
                retry_after=-(-wait_ns // 10**9),
            )
        one.take(now_ns)
        self._all.take(now_ns)

    def forgive(self, address: str) -> None:
        """The attempt was none of a guess."""
        now_ns = self._now_ns()
        self._of(address).take(now_ns, -1)
        self._all.take(now_ns, -1)

    def _now_ns(self) -> int:
        return int(self._monotonic() * 1e9)

    def _of(self, address: str) -> Gcra:
        network = network_of(address)
        found = self._by_network.pop(network, None) or Gcra(Quota(FROM_ONE))
        self._by_network[network] = found
        if len(self._by_network) > MOST_ADDRESSES:
            self._by_network.popitem(last=False)
        return found


def network_of(address: str) -> str:
    """What one person can be expected to have."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.IPv6Network((parsed, _NETWORK_BITS), strict=False))
    return str(parsed)
