"""Who calls."""

import hashlib
import hmac
from base64 import b64encode
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.auth import authenticate as auth
from bridge.auth.authenticate import Caller, Credentials, LiveSecret, authenticate
from voipex.errors import Unauthorized
from voipex.webhook import DOCUMENTED_KEYS

SITE = Caller("site-7", "voipex", "CZ", DOCUMENTED_KEYS)
BRNO = Caller("brno", "brno", "SK", DOCUMENTED_KEYS)


def digest(secret: str) -> LiveSecret:
    return LiveSecret(secret[:3], hashlib.sha256(secret.encode()).digest())


CREDENTIALS = Credentials(
    [(SITE, [digest("older-secret"), digest("newer:secret")]), (BRNO, [digest("secret-of-brno")])]
)


def basic(user: str, password: str, scheme: str = "Basic", encoding: str = "utf-8") -> bytes:
    return f"{scheme} ".encode() + b64encode(f"{user}:{password}".encode(encoding))


def test_user_and_password_name_the_caller() -> None:
    assert authenticate(basic("brno", "secret-of-brno"), CREDENTIALS) is BRNO


@pytest.mark.parametrize("secret", ["older-secret", "newer:secret"])
def test_both_live_secrets_are_good_and_a_password_may_hold_colons(secret: str) -> None:
    assert authenticate(basic("site-7", secret), CREDENTIALS) is SITE


def test_a_header_that_proved_right_is_good_no_longer_than_its_credentials() -> None:
    header = basic("brno", "secret-of-brno")
    before = Credentials([(BRNO, [digest("secret-of-brno")])])
    after = Credentials([(BRNO, [digest("another-secret")])])

    assert [authenticate(header, before) for _ in range(2)] == [BRNO, BRNO]
    with pytest.raises(Unauthorized):
        authenticate(header, after)


def test_spellings_of_a_right_header_fill_no_memory() -> None:
    credentials = Credentials([(BRNO, [digest("secret-of-brno")])])

    for spaces in range(1, 980):
        for scheme in ("Basic", "basic"):
            authenticate(basic("brno", "secret-of-brno", scheme + " " * spaces), credentials)

    assert len(credentials.proven) == 1024


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC", "bAsIc"])
def test_the_scheme_comes_in_any_letter_case(scheme: str) -> None:
    assert authenticate(basic("site-7", "older-secret", scheme), CREDENTIALS) is SITE


def test_spaces_around_the_token_do_no_harm() -> None:
    header = b"Basic   " + b64encode(b"site-7:older-secret") + b" "

    assert authenticate(header, CREDENTIALS) is SITE


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
def test_everything_else_is_refused(header: bytes | None) -> None:
    with pytest.raises(Unauthorized):
        authenticate(header, CREDENTIALS)


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (None, "no Authorization header"),
        (b"", "empty, or there is more than one"),
        (b"Digest username=site-7", "neither Basic nor Bearer"),
        (b"Basic !!!!", "malformed"),
        (basic("site-7", "wrong"), "wrong password"),
    ],
)
def test_a_refusal_says_what_is_wrong(header: bytes | None, told: str) -> None:
    with pytest.raises(Unauthorized, match=told):
        authenticate(header, CREDENTIALS)


def test_nobody_is_let_in_when_there_are_no_credentials() -> None:
    with pytest.raises(Unauthorized):
        authenticate(basic("site-7", "older-secret"), Credentials([]))


def test_a_caller_whose_secrets_are_all_gone_is_refused() -> None:
    with pytest.raises(Unauthorized):
        authenticate(basic("site-7", ""), Credentials([(SITE, [])]))


def test_a_header_beyond_all_measure_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(Unauthorized, match="too long"):
        authenticate(basic("site-7", "x" * 100_000), CREDENTIALS)


def test_an_unknown_user_and_a_wrong_password_look_alike() -> None:
    """Else names could be collected."""
    messages = []
    for header in (basic("nobody", "older-secret"), basic("site-7", "wrong")):
        with pytest.raises(Unauthorized) as caught:
            authenticate(header, CREDENTIALS)
        messages.append(str(caught.value))

    assert messages[0] == messages[1]


@pytest.mark.parametrize("user", ["nobody", "site-7", "brno"])
def test_every_attempt_costs_one_digest_and_two_comparisons_in_constant_time(user: str) -> None:
    """Also for an unknown user, and for one with a single secret: the time of an answer tells nothing."""
    with (
        patch.object(auth, "compare_digest", wraps=hmac.compare_digest) as compared,
        patch.object(auth, "sha256", wraps=hashlib.sha256) as hashed,
        pytest.raises(Unauthorized),
    ):
        authenticate(basic(user, "wrong"), CREDENTIALS)

    assert (compared.call_count, hashed.call_count) == (2, 1)


def test_a_refusal_never_repeats_what_was_sent() -> None:
    for header in (basic("site-7", "hunter2hunter2"), b"Basic hunter2hunter2", b"hunter2hunter2"):
        with pytest.raises(Unauthorized) as caught:
            authenticate(header, CREDENTIALS)

        assert "hunter2" not in str(caught.value)


def test_callers_are_found_by_name_for_a_replay() -> None:
    assert CREDENTIALS.caller("site-7") is SITE
    assert CREDENTIALS.caller("nobody") is None
    assert CREDENTIALS.callers() == (SITE, BRNO)
    assert len(CREDENTIALS) == 2


@pytest.mark.parametrize("digests", [[digest("a")] * 3, [LiveSecret("a", b"short")]])
def test_credentials_hold_at_most_two_digests_of_sha256(digests: list[LiveSecret]) -> None:
    with pytest.raises(ValueError, match="two secrets"):
        Credentials([(SITE, digests)])


@settings(deadline=None)
@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda token: b"Basic " + b64encode(token)))
def test_no_header_but_the_right_one_lets_anybody_in(header: bytes) -> None:
    with pytest.raises(Unauthorized):
        authenticate(header, CREDENTIALS)
