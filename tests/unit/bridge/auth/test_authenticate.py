"""Authorization header -> Principal."""

import hashlib
import hmac
from base64 import b64encode
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.auth import authenticate as auth
from bridge.auth.authenticate import Credentials, Principal, SecretHash, authenticate
from voipex.errors import Unauthorized
from voipex.webhook import DOCUMENTED_KEYS

NOW_S = 1_772_438_400.5
SITE = Principal("site-7", "voipex", "CZ", DOCUMENTED_KEYS)
BRNO = Principal("brno", "brno", "SK", DOCUMENTED_KEYS)


def digest(secret: str) -> SecretHash:
    return SecretHash(secret[:3], hashlib.sha256(secret.encode()).digest())


CREDENTIALS = Credentials(
    [(SITE, [digest("older-secret"), digest("newer:secret")]), (BRNO, [digest("secret-of-brno")])]
)


def basic(user: str, password: str, scheme: str = "Basic", encoding: str = "utf-8") -> bytes:
    return f"{scheme} ".encode() + b64encode(f"{user}:{password}".encode(encoding))


def test_user_and_password_identify_the_principal() -> None:
    assert authenticate(basic("brno", "secret-of-brno"), CREDENTIALS, NOW_S) is BRNO


@pytest.mark.parametrize("secret", ["older-secret", "newer:secret"])
def test_both_live_secrets_are_valid_and_may_contain_colons(secret: str) -> None:
    assert authenticate(basic("site-7", secret), CREDENTIALS, NOW_S) is SITE


def test_a_verified_header_ends_with_its_credentials() -> None:
    header = basic("brno", "secret-of-brno")
    before = Credentials([(BRNO, [digest("secret-of-brno")])])
    after = Credentials([(BRNO, [digest("another-secret")])])

    assert [authenticate(header, before, NOW_S) for _ in range(2)] == [BRNO, BRNO]
    with pytest.raises(Unauthorized):
        authenticate(header, after, NOW_S)


def test_the_cache_of_verified_headers_is_bounded() -> None:
    credentials = Credentials([(BRNO, [digest("secret-of-brno")])])

    for spaces in range(1, 980):
        for scheme in ("Basic", "basic"):
            authenticate(basic("brno", "secret-of-brno", scheme + " " * spaces), credentials, NOW_S)

    assert len(credentials._verified) <= 1024


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC", "bAsIc"])
def test_the_scheme_is_case_insensitive(scheme: str) -> None:
    assert authenticate(basic("site-7", "older-secret", scheme), CREDENTIALS, NOW_S) is SITE


def test_spaces_around_the_credentials_are_ignored() -> None:
    header = b"Basic   " + b64encode(b"site-7:older-secret") + b" "

    assert authenticate(header, CREDENTIALS, NOW_S) is SITE


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"Basic",
        b"Basic ",
        b"Basic\t" + b64encode(b"site-7:older-secret"),
        b"Basic !!!!",
        b"Basic " + b64encode(b"site-7:older-secret").rstrip(b"=") + b"=====",
        b"Basic " + b64encode(b"site-7:older-secret")[:-1],
        b"Basic " + b64encode(b"site-7"),
        b"Basic " + b64encode(b":older-secret"),
        b"Basic " + b64encode(b"site-7:"),
        b"Basic " + b64encode(b"site-7:older-secret ") + b"\x00",
        b"Bearer " + b64encode(b"site-7:older-secret"),
        b"Digest username=site-7",
        b64encode(b"site-7:older-secret"),
        basic("site-7", "wrong"),
        basic("site-7", "secret-of-brno"),
        basic("brno", "older-secret"),
        basic("Site-7", "older-secret"),
        basic("nobody", "older-secret"),
        basic("", ""),
        basic("dvořák", "older-secret"),
        basic("müller", "older-secret", encoding="latin-1"),
        basic("site-7", "hes\u00e9", encoding="latin-1"),
    ],
)
def test_any_other_header_is_unauthorized(header: bytes | None) -> None:
    with pytest.raises(Unauthorized):
        authenticate(header, CREDENTIALS, NOW_S)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "no Authorization header"),
        (b"", "empty, or there is more than one"),
        (b"Digest username=site-7", "neither Basic nor Bearer"),
        (b"Basic !!!!", "malformed"),
        (basic("site-7", "wrong"), "wrong password"),
    ],
)
def test_the_error_names_the_reason(header: bytes | None, message: str) -> None:
    with pytest.raises(Unauthorized, match=message):
        authenticate(header, CREDENTIALS, NOW_S)


def test_without_credentials_everyone_is_unauthorized() -> None:
    with pytest.raises(Unauthorized):
        authenticate(basic("site-7", "older-secret"), Credentials([]), NOW_S)


def test_a_principal_without_secrets_is_unauthorized() -> None:
    with pytest.raises(Unauthorized):
        authenticate(basic("site-7", ""), Credentials([(SITE, [])]), NOW_S)


def test_an_oversized_header_is_rejected_before_decoding() -> None:
    with pytest.raises(Unauthorized, match="too long"):
        authenticate(basic("site-7", "x" * 100_000), CREDENTIALS, NOW_S)


def test_unknown_user_and_wrong_password_look_alike() -> None:
    """Otherwise a stranger could collect user names."""
    messages = []
    for header in (basic("nobody", "older-secret"), basic("site-7", "wrong")):
        with pytest.raises(Unauthorized) as caught:
            authenticate(header, CREDENTIALS, NOW_S)
        messages.append(str(caught.value))

    assert messages[0] == messages[1]


@pytest.mark.parametrize("user", ["nobody", "site-7", "brno"])
def test_every_attempt_costs_one_digest_and_two_comparisons(user: str) -> None:
    """Also for an unknown user, and for one with a single secret: the response time must reveal nothing."""
    with (
        patch.object(auth, "compare_digest", wraps=hmac.compare_digest) as compared,
        patch.object(auth, "sha256", wraps=hashlib.sha256) as hashed,
        pytest.raises(Unauthorized),
    ):
        authenticate(basic(user, "wrong"), CREDENTIALS, NOW_S)

    assert (compared.call_count, hashed.call_count) == (2, 1)


def test_the_error_never_repeats_the_header() -> None:
    for header in (basic("site-7", "hunter2hunter2"), b"Basic hunter2hunter2", b"hunter2hunter2"):
        with pytest.raises(Unauthorized) as caught:
            authenticate(header, CREDENTIALS, NOW_S)

        assert "hunter2" not in str(caught.value)


def test_principals_are_found_by_name_for_a_replay() -> None:
    assert CREDENTIALS.principal("site-7") is SITE
    assert CREDENTIALS.principal("nobody") is None
    assert CREDENTIALS.principals() == (SITE, BRNO)
    assert len(CREDENTIALS) == 2


@pytest.mark.parametrize("digests", [[digest("a")] * 3, [SecretHash("a", b"short")]])
def test_a_credential_has_at_most_two_secrets(digests: list[SecretHash]) -> None:
    with pytest.raises(ValueError, match="two secrets"):
        Credentials([(SITE, digests)])


@settings(deadline=None)
@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda token: b"Basic " + b64encode(token)))
def test_no_random_header_authenticates(header: bytes) -> None:
    with pytest.raises(Unauthorized):
        authenticate(header, CREDENTIALS, NOW_S)
