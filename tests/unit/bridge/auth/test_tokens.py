"""Bearer tokens: verification, lifetime, and the token endpoint."""

import asyncio
import hashlib
import json
from base64 import b64encode
from unittest.mock import patch
from urllib.parse import urlencode

import jwt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bridge.auth.authenticate import Credentials, Principal, SecretHash, authenticate
from bridge.auth.tokens import LIFETIME_S, issue, verify
from bridge.http.ingress import TOKEN_PATH, WEBHOOK_PATHS, Ingress, WebhookEndpoint
from bridge.http.receipts import ReceiptClock
from bridge.http.token_endpoint import TokenEndpoint
from bridge.metrics import Metrics
from tests.factories import body
from tests.fakes import AsgiResponse, FakeSpool, asgi_request
from voipex.errors import TokenInvalid, Unauthorized
from voipex.webhook import DOCUMENTED_KEYS

NOW_S = 1_772_438_400.5
KEY = b"k" * 43
SITE = Principal("site-7", "voipex", "CZ", DOCUMENTED_KEYS)


def live(secret_id: str, secret: str) -> SecretHash:
    return SecretHash(secret_id, hashlib.sha256(secret.encode()).digest())


CREDENTIALS = Credentials(
    [
        (SITE, [live("aaaa", "older-secret"), live("bbbb", "newer-secret")]),
    ],
    KEY,
)


def bearer(token: str) -> bytes:
    return b"Bearer " + token.encode()


# ---------------------------------------------------------------- what a token proves


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_token_identifies_its_principal_until_it_expires(scheme: str) -> None:
    header = f"{scheme} {issue('site-7', 'bbbb', NOW_S, KEY)}".encode()

    assert authenticate(header, CREDENTIALS, NOW_S) is SITE
    assert authenticate(header, CREDENTIALS, NOW_S + LIFETIME_S - 1) is SITE
    with pytest.raises(TokenInvalid, match="expired"):
        authenticate(header, CREDENTIALS, NOW_S + LIFETIME_S)


def test_a_token_is_valid_at_every_replica_until_revoked() -> None:
    token = bearer(issue("site-7", "aaaa", NOW_S, KEY))
    replica = Credentials([(SITE, [live("aaaa", "older-secret")])], KEY)
    rotated = Credentials([(SITE, [live("bbbb", "newer-secret")])], KEY)
    revoked = Credentials([], KEY)

    assert authenticate(token, replica, NOW_S) is SITE
    for later in (rotated, revoked):
        with pytest.raises(TokenInvalid, match="no longer valid"):
            authenticate(token, later, NOW_S)


def test_a_changed_or_missing_signing_key_ends_all_tokens() -> None:
    token = bearer(issue("site-7", "aaaa", NOW_S, KEY))
    forged = bearer(issue("site-7", "aaaa", NOW_S, b"f" * 43))
    secrets = [live("aaaa", "older-secret")]

    for header, key in ((token, b"x" * 43), (token, b""), (forged, b""), (forged, KEY)):
        with pytest.raises(TokenInvalid):
            authenticate(header, Credentials([(SITE, secrets)], key), NOW_S)


@pytest.mark.parametrize("secret_id", ["", "cccc", "zzzz"])
def test_a_token_for_a_foreign_secret_is_invalid(secret_id: str) -> None:
    with pytest.raises(TokenInvalid):
        authenticate(bearer(issue("site-7", secret_id, NOW_S, KEY)), CREDENTIALS, NOW_S)


GOOD = issue("site-7", "aaaa", NOW_S, KEY)


@given(st.integers(0, len(GOOD) - 1), st.characters(codec="ascii", min_codepoint=33))
def test_a_token_with_any_character_changed_is_invalid(place: int, character: str) -> None:
    changed = GOOD[:place] + character + GOOD[place + 1 :]
    # The last character of the signature has two bits that base64url ignores.
    assume(changed != GOOD and place != len(GOOD) - 1)

    with pytest.raises(Unauthorized):
        authenticate(bearer(changed), CREDENTIALS, NOW_S)


def test_a_verified_token_is_verified_once_until_it_expires() -> None:
    credentials = Credentials([(SITE, [live("aaaa", "older-secret")])], KEY)
    header = bearer(GOOD)

    with patch("bridge.auth.tokens.jwt.decode", wraps=jwt.decode) as decoded:
        assert [authenticate(header, credentials, NOW_S + each) for each in range(3)] == [SITE] * 3
    assert decoded.call_count == 1
    with pytest.raises(TokenInvalid, match="expired"):
        authenticate(header, credentials, NOW_S + LIFETIME_S)


@given(st.binary(max_size=100))
def test_random_bytes_are_no_valid_token(token: bytes) -> None:
    with pytest.raises(TokenInvalid):
        verify(token, NOW_S, KEY)


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b".",
        b"..",
        GOOD[:-2].encode(),
        GOOD.encode() + b"x",
        b"x." + GOOD.encode(),
        jwt.encode({"sub": "site-7", "jti": "aaaa", "exp": 9_999_999_999}, "", "none").encode(),
        jwt.encode({"sub": "site-7", "jti": "aaaa", "exp": 9_999_999_999}, KEY * 2, "HS512").encode(),
        jwt.encode({"sub": "site-7", "jti": "aaaa"}, KEY, "HS256").encode(),
        jwt.encode({"sub": "site-7", "exp": 9_999_999_999}, KEY, "HS256").encode(),
        jwt.encode({"jti": "aaaa", "exp": 9_999_999_999}, KEY, "HS256").encode(),
        jwt.encode({"sub": 7, "jti": "aaaa", "exp": 9_999_999_999}, KEY, "HS256").encode(),
        jwt.encode({"sub": "site-7", "jti": 7, "exp": 9_999_999_999}, KEY, "HS256").encode(),
    ],
)
def test_a_token_with_a_fault_is_invalid(token: bytes) -> None:
    with pytest.raises(TokenInvalid):
        verify(token, NOW_S, KEY)


# ---------------------------------------------------------------- the token endpoint


def token_response(
    *chunks: bytes, method: str = "POST", headers: tuple[tuple[bytes, bytes], ...] = ()
) -> AsgiResponse:
    app = ingress()
    return asyncio.run(asgi_request(app, *chunks, path="/token", method=method, headers=headers))


def ingress(metrics: Metrics | None = None) -> Ingress:
    metrics = metrics or Metrics("test")
    webhooks = WebhookEndpoint(
        FakeSpool(),
        lambda header: authenticate(header, CREDENTIALS, NOW_S),
        ReceiptClock(),
        metrics,
        partitions_of=lambda _: 12,
        max_body_bytes=1024,
    )
    tokens = TokenEndpoint(lambda: CREDENTIALS, lambda: NOW_S)
    return Ingress({**dict.fromkeys(WEBHOOK_PATHS, webhooks), TOKEN_PATH: tokens}, metrics)


def form(**fields: str) -> bytes:
    return urlencode({"grant_type": "client_credentials", **fields}).encode()


def basic(text: str) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"authorization", b"Basic " + b64encode(text.encode())),)


IN_FORM = form(client_id="site-7", client_secret="newer-secret")
IN_JSON = json.dumps(
    {"grant_type": "client_credentials", "client_id": "site-7", "client_secret": "newer-secret", "ttl": 1}
).encode()


@pytest.mark.parametrize(
    ("raw", "headers"),
    [
        (IN_FORM, ()),
        (b"  " + IN_JSON + b"\n", ()),
        (IN_JSON, ((b"content-type", b"text/plain"),)),
        (IN_FORM + b"&scope=everything", ()),
        (form(), basic("site-7:newer-secret")),
        (form(client_id="site-7"), basic("site-7:newer-secret")),
        (b'{"grant_type":"client_credentials"}', basic("site-7:newer-secret")),
        (b"\xef\xbb\xbf" * 2 + IN_JSON + b"\0\0", ()),
        (b"\xef\xbb\xbf" + IN_FORM + b"\0", ()),
        (IN_JSON.replace(b'"ttl"', '"note":"řeka","ttl"'.encode("cp1250")), ()),
        (IN_JSON.replace(b'"ttl"', '"note":"ř'.encode() + b'\xff\\ud800","ttl"'), ()),
        (IN_JSON.replace(b'"ttl"', b'"client_id":"site-7","ttl"').replace(b"site-7", b"other", 1), ()),
    ],
)
def test_form_json_and_basic_all_get_a_working_token(
    raw: bytes, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    response = token_response(raw[:7], raw[7:], headers=headers)

    token = json.loads(response.body)
    used = asyncio.run(
        asgi_request(ingress(), body(), headers=((b"authorization", bearer(token["access_token"])),))
    )
    assert response.status == 200
    assert (token["token_type"], token["expires_in"]) == ("Bearer", 3600)
    assert response.headers[b"cache-control"] == b"no-store"
    assert verify(token["access_token"].encode(), NOW_S, KEY).secret_id == "bbbb"
    assert used.status == 200


@pytest.mark.parametrize(
    ("raw", "headers", "status", "error"),
    [
        (b"", (), 400, "invalid_request"),
        (b"nonsense", (), 400, "invalid_request"),
        (b"{nonsense", (), 400, "invalid_request"),
        (b"\xff=1", (), 400, "invalid_request"),
        (b"\x81=1", (), 400, "invalid_request"),
        (b'{"a":' + b"[" * 4000, (), 400, "invalid_request"),
        (b"client_id=site-7&client_secret=newer-secret", (), 400, "invalid_request"),
        (IN_FORM + b"&client_id=other", (), 400, "invalid_request"),
        (
            b'{"grant_type":"client_credentials","client_id":7,"client_secret":"x"}',
            (),
            400,
            "invalid_request",
        ),
        (b"&".join(b"a%d=1" % n for n in range(100)), (), 400, "invalid_request"),
        (IN_FORM, basic("site-7:newer-secret"), 400, "invalid_request"),
        (form(client_id="other"), basic("site-7:newer-secret"), 400, "invalid_request"),
        (b"grant_type=password&username=a&password=b", (), 400, "unsupported_grant_type"),
        (b"grant_type=client_credentials", (), 401, "invalid_client"),
        (form(client_id="site-7", client_secret=""), (), 401, "invalid_client"),
        (form(client_id="site-7", client_secret="wrong"), (), 401, "invalid_client"),
        (form(client_id="nobody", client_secret="newer-secret"), (), 401, "invalid_client"),
        (form(client_id="site-7\0", client_secret="newer-secret"), (), 401, "invalid_client"),
        (form(), basic("site-7:wrong"), 401, "invalid_client"),
        (form(), basic("site-7"), 401, "invalid_client"),
        (form(), ((b"authorization", b"Basic !!!"),), 401, "invalid_client"),
        (form(), ((b"authorization", b"Bearer " + GOOD.encode()),), 401, "invalid_client"),
    ],
)
def test_errors_have_the_codes_of_rfc_6749(
    raw: bytes, headers: tuple[tuple[bytes, bytes], ...], status: int, error: str
) -> None:
    response = token_response(raw, headers=headers)

    said = json.loads(response.body)
    assert (response.status, said["error"]) == (status, error)
    assert response.headers[b"content-type"] == b"application/json"
    assert (b"www-authenticate" in response.headers) == (status == 401)
    assert b"secret" not in response.body.replace(b"client_secret", b"").replace(b"wrong secret", b"")


def test_unknown_client_and_wrong_secret_look_alike() -> None:
    unknown, wrong = (
        token_response(form(client_id=name, client_secret=secret))
        for name, secret in (("nobody", "newer-secret"), ("site-7", "wrong"))
    )

    assert unknown == wrong


def test_a_long_body_is_rejected_before_it_is_read() -> None:
    response = token_response(*[b"x" * 1000] * 50)

    assert (response.status, json.loads(response.body)["error"]) == (413, "invalid_request")
    assert response.reads < 8


def test_other_methods_than_post_get_405() -> None:
    response = token_response(method="GET")

    assert (response.status, response.headers[b"allow"]) == (405, b"POST")


def test_token_requests_are_counted_as_their_own_route() -> None:
    metrics = Metrics("test")
    app = ingress(metrics)

    asyncio.run(asgi_request(app, IN_FORM, path="/token", headers=()))

    value = metrics.registry.get_sample_value
    assert (
        value("voipex_bridge_http_requests_total", {"route": "/token", "method": "POST", "code": "200"}) == 1
    )


def test_a_401_offers_both_schemes_and_names_a_bad_token() -> None:
    nothing = asyncio.run(asgi_request(ingress(), body(), headers=()))
    bad_token = asyncio.run(asgi_request(ingress(), body(), headers=((b"authorization", b"Bearer x"),)))

    assert nothing.headers[b"www-authenticate"] == (
        b'Basic realm="voipex-bridge", charset="UTF-8", Bearer realm="voipex-bridge"'
    )
    assert bad_token.headers[b"www-authenticate"].endswith(
        b'Bearer realm="voipex-bridge", error="invalid_token"'
    )
    assert (nothing.status, bad_token.status) == (401, 401)
