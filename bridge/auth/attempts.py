"""
Wrong passwords, by the address that they come from: which get 429 instead of 401, and which get a log line.

A right credential is accepted from any address: clients share addresses, and a secret of 192 random bits is not guessed however often
somebody tries. What a throttle can save is the log, and, since 429 closes the connection, work. So only a wrong user or password counts.
A request without credentials must get its 401, or clients that send them when they are asked would never do; so must an expired token.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

RETRY_AFTER_S: Final = 2
"""An address may send one wrong password in so many seconds, after the first `_BURST`."""
_BURST: Final = 10  # a person who tries, a few PBXs whose password was rotated
_MAX_ADDRESSES: Final = 4096  # the one that was quiet for longest is forgotten
_LOG_INTERVAL_S: Final = 1.0
_MAX_USERS_LOGGED: Final = 8  # of an address, in one interval: names are made up easily

Network = IPv4Network | IPv6Network


class Verdict(NamedTuple):
    """What to do about a wrong password. `suppressed`: lines not written since the last one; None: write none now."""

    is_throttled: bool
    suppressed: int | None


@dataclass(slots=True)
class _Address:
    allowance: float
    updated_s: float
    logged_s: float
    logged_users: set[str] = field(default_factory=set)
    suppressed: int = 0


class WrongPasswords:
    """
    Counts wrong passwords.

    Args:
        trusted_proxies: networks whose X-Forwarded-For is believed.
        monotonic: clock, in seconds.
    """

    def __init__(
        self, trusted_proxies: Sequence[Network] = (), monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._trusted_proxies = trusted_proxies
        self._monotonic = monotonic
        self._addresses: dict[str, _Address] = {}

    def client(self, peer: str, forwarded_for: bytes | None) -> str:
        """
        Return the address of the client.

        Of X-Forwarded-For the last address counts that is no trusted proxy: those before it are whatever the client wrote.
        """
        client = peer
        hops = [] if forwarded_for is None else forwarded_for.decode("latin-1").split(",")
        while hops and self._is_trusted(client):
            hop = _parse(hops.pop().strip())
            if hop is None:
                break
            client = str(hop)
        return client

    def record(self, client: str, user: str) -> Verdict:
        """Count a wrong password."""
        now_s = self._monotonic()
        key = _key(client)
        address = self._addresses.pop(key, None)
        if address is None:
            address = _Address(_BURST, now_s, now_s)
            if len(self._addresses) >= _MAX_ADDRESSES:
                del self._addresses[next(iter(self._addresses))]
        self._addresses[key] = address  # the newest is the last
        address.allowance = min(_BURST, address.allowance + (now_s - address.updated_s) / RETRY_AFTER_S)
        address.updated_s = now_s
        is_throttled = address.allowance < 1
        if not is_throttled:
            address.allowance -= 1
        return Verdict(is_throttled, _admit(address, user, now_s))

    def _is_trusted(self, text: str) -> bool:
        address = _parse(text)
        return address is not None and any(address in network for network in self._trusted_proxies)


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Parse addresses and networks. Raises ValueError."""
    return tuple(ip_network(text) for text in texts)


def _admit(address: _Address, user: str, now_s: float) -> int | None:
    """Admit a log line for each user of an address, once per interval."""
    if now_s - address.logged_s >= _LOG_INTERVAL_S:
        address.logged_users.clear()
        address.logged_s = now_s
    if user in address.logged_users or len(address.logged_users) >= _MAX_USERS_LOGGED:
        address.suppressed += 1
        return None
    address.logged_users.add(user)
    suppressed, address.suppressed = address.suppressed, 0
    return suppressed


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """Return an address, without the port that some proxies add; None if it is none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _key(client: str) -> str:
    """An IPv6 client has a whole /64 to send from."""
    address = _parse(client)
    if isinstance(address, IPv6Address):
        return str(ip_network((address.packed[:8] + bytes(8), 64)))
    return client if address is None else str(address)
