"""Wrong passwords by address: the throttle, its lines in the log, and the address of a client behind proxies."""

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import Sequence

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from bridge.auth.attempts import RETRY_AFTER_S, WrongPasswords, networks
from bridge.auth.authenticate import Credentials, Principal, SecretHash, authenticate
from bridge.http.ingress import TOKEN_PATH, WEBHOOK_PATHS, Ingress, WebhookEndpoint
from bridge.http.receipts import ReceiptClock
from bridge.http.token_endpoint import TokenEndpoint
from bridge.metrics import Metrics
from tests.factories import body
from tests.fakes import AsgiResponse, FakeSpool, asgi_request
from voipex.webhook import DOCUMENTED_KEYS

SECRET = "right-secret-of-site-7"
CREDENTIALS = Credentials(
    [
        (
            Principal("site-7", "voipex", "CZ", DOCUMENTED_KEYS),
            [SecretHash("aaaa", hashlib.sha256(SECRET.encode()).digest())],
        )
    ],
    b"k" * 43,
)


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def passwords(proxies: Sequence[str] = ()) -> tuple[WrongPasswords, Clock]:
    clock = Clock()
    return WrongPasswords(networks(proxies), clock), clock


def throttled(attempts: WrongPasswords, client: str, count: int) -> list[bool]:
    return [attempts.record(client, "user").is_throttled for _ in range(count)]


def test_an_address_is_throttled_after_its_allowance() -> None:
    attempts, clock = passwords()

    first = throttled(attempts, "192.0.2.1", 12)
    other = throttled(attempts, "192.0.2.2", 1)
    clock.now_s += 2 * RETRY_AFTER_S
    later = throttled(attempts, "192.0.2.1", 3)
    clock.now_s += 3600
    much_later = throttled(attempts, "192.0.2.1", 11)

    assert first == [False] * 10 + [True] * 2
    assert other == [False]
    assert later == [False, False, True]
    assert much_later == [False] * 10 + [True]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_an_ipv6_network_counts_as_one_address(one: str, other: str, same: bool) -> None:
    attempts, _ = passwords()

    throttled(attempts, one, 11)

    assert throttled(attempts, other, 1) == [same]


def test_memory_is_bounded_and_active_addresses_stay() -> None:
    attempts, _ = passwords()
    throttled(attempts, "192.0.2.1", 11)

    for number in range(20_000):
        attempts.record(f"10.0.{number // 250}.{number % 250}", "user")
        if number % 1000 == 0:
            assert throttled(attempts, "192.0.2.1", 1) == [True]

    assert len(attempts._addresses) == 4096


def test_each_user_of_an_address_is_logged_once_a_second() -> None:
    attempts, clock = passwords()

    lines = [attempts.record("192.0.2.1", user).suppressed for user in ("a", "a", "b", "b")]
    many = [attempts.record("192.0.2.1", f"made-up-{number}").suppressed for number in range(100)]
    clock.now_s += 1.0
    next_second = attempts.record("192.0.2.1", "a").suppressed

    assert lines == [0, None, 1, None]
    assert sum(each is not None for each in many) == 6
    assert next_second == 94


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("192.0.2.1", b"198.51.100.1", "192.0.2.1"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", b"198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", b"203.0.113.9, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", b"198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("::ffff:10.0.0.1", b"198.51.100.1:4711", "198.51.100.1"),
        ("10.0.0.1", b"[2001:db8::1]:4711", "2001:db8::1"),
        ("10.0.0.1", b"198.51.100.1, unknown", "10.0.0.1"),
        ("10.0.0.1", b"", "10.0.0.1"),
        ("", b"198.51.100.1", ""),
    ],
)
def test_only_trusted_proxies_name_the_client(peer: str, forwarded_for: bytes | None, client: str) -> None:
    attempts, _ = passwords(["10.0.0.0/8"])

    assert attempts.client(peer, forwarded_for) == client


@given(st.binary(max_size=60))
def test_any_forwarded_header_is_read(forwarded_for: bytes) -> None:
    attempts, _ = passwords(["10.0.0.0/8"])

    client = attempts.client("10.0.0.1", forwarded_for)

    attempts.record(client, "user")


# ---------------------------------------------------------------- at the ingress


def ingress(spool: FakeSpool, proxies: Sequence[str] = ()) -> Ingress:
    metrics = Metrics("test")
    webhooks = WebhookEndpoint(
        spool,
        lambda header: authenticate(header, CREDENTIALS, 1.0),
        ReceiptClock(),
        metrics,
        partitions_of=lambda _: 12,
        max_body_bytes=1024,
    )
    return Ingress(
        {**dict.fromkeys(WEBHOOK_PATHS, webhooks), TOKEN_PATH: TokenEndpoint(lambda: CREDENTIALS)},
        metrics,
        wrong_passwords=passwords(proxies)[0],
    )


def posted(app: Ingress, user: str, password: str, *more: tuple[bytes, bytes]) -> AsgiResponse:
    authorization = b"Basic " + b64encode(f"{user}:{password}".encode())
    return asyncio.run(asgi_request(app, body(), headers=((b"authorization", authorization), *more)))


def test_wrong_passwords_get_429_and_a_right_one_passes() -> None:
    app = ingress(FakeSpool())

    wrong = [posted(app, "site-7", "wrong") for _ in range(12)]
    right = posted(app, "site-7", SECRET)
    without = asyncio.run(asgi_request(app, body(), headers=()))
    token = (b"authorization", b"Bearer expired")
    expired = asyncio.run(asgi_request(app, body(), headers=(token,)))

    assert [each.status for each in wrong] == [401] * 10 + [429] * 2
    assert (wrong[-1].headers[b"retry-after"], wrong[-1].headers[b"connection"]) == (b"2", b"close")
    assert (right.status, without.status, expired.status) == (200, 401, 401)


def test_wrong_secrets_at_the_token_endpoint_count_too() -> None:
    app = ingress(FakeSpool())
    raw = b"grant_type=client_credentials&client_id=site-7&client_secret="

    def fetched(secret: str) -> AsgiResponse:
        return asyncio.run(asgi_request(app, raw + secret.encode(), path="/token", headers=()))

    wrong = [fetched("wrong") for _ in range(11)]

    assert [each.status for each in wrong] == [401] * 10 + [429]
    assert b'"error":"temporarily_unavailable"' in wrong[-1].body
    assert posted(app, "site-7", "wrong").status == 429
    assert fetched(SECRET).status == 200


def test_clients_behind_a_trusted_proxy_are_throttled_apart() -> None:
    app = ingress(FakeSpool(), ["192.0.2.0/24"])

    guessing = [posted(app, "x", "y", (b"x-forwarded-for", b"198.51.100.1")).status for _ in range(11)]
    mistaken = posted(app, "site-7", "old", (b"x-forwarded-for", b"198.51.100.2")).status

    assert (guessing[-1], mistaken) == (429, 401)


@pytest.mark.parametrize(
    ("user", "shown"),
    [
        ("site-7", "site-7"),
        ("Nobody", "Nobody"),
        (SECRET, "?"),
        ("petr.novak@jehofirma.cz", "?"),
        ("new\nline", "?"),
        ("", "?"),
    ],
)
def test_a_wrong_password_is_logged_with_user_and_address(user: str, shown: str) -> None:
    app = ingress(FakeSpool(), ["192.0.2.0/24"])

    with structlog.testing.capture_logs() as lines:
        posted(app, user, "wrong-password", (b"x-forwarded-for", b"198.51.100.1"))

    [line] = lines  # and no other of the same request
    assert line["event"] == "wrong password"
    assert (line["user"], line["client"], line["peer"]) == (shown, "198.51.100.1", "192.0.2.1")
    assert "wrong-password" not in str(lines)
    assert SECRET not in str(lines)
