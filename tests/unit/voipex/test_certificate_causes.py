"""Certificates that OpenSSL rejects: its own reason is named. Real handshakes, in memory."""

import datetime as dt
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from voipex.kafka import diagnostics
from voipex.kafka.settings import KafkaSettings

HOST = "broker.example"
NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


def certificates(
    folder: Path,
    *,
    key_usage: bool = True,
    begins: dt.datetime = NOW - DAY,
    ends: dt.datetime = NOW + DAY,
) -> tuple[Path, Path]:
    """Write the certificate of an authority, and the chain and key of a broker that it has signed."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    authority = (
        x509.CertificateBuilder(issuer, issuer, authority_key.public_key(), x509.random_serial_number())
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(identifier, critical=False)
    )
    if key_usage:
        usage = dict.fromkeys(
            (
                "digital_signature",
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        authority = authority.add_extension(
            x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True
        )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    broker = (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(
        authority.sign(authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    (folder / "broker.pem").write_bytes(
        broker.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return folder / "ca.pem", folder / "broker.pem"


def rejection(ca: Path, chain: Path) -> ssl.SSLError:
    """Shake hands, and return the client's error."""
    client = ssl.create_default_context(cafile=ca)
    client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT  # the default from Python 3.13 on
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=HOST),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(5):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                return error
    raise AssertionError("the certificate was accepted")


def cause(error: ssl.SSLError) -> str:
    return diagnostics._cause(KafkaSettings(), error).message


def test_an_authority_without_key_usage_is_named_by_openssl(tmp_path: Path) -> None:
    """It has neither expired, nor is a clock wrong."""
    message = cause(rejection(*certificates(tmp_path, key_usage=False)))

    assert "CA cert does not include key usage extension" in message
    assert "expired" not in message
    assert "clock" not in message


@pytest.mark.parametrize(
    ("begins", "ends", "expected"),
    [(NOW - 2 * DAY, NOW - DAY, "has expired"), (NOW + DAY, NOW + 2 * DAY, "is not valid yet")],
    ids=["expired", "not yet"],
)
def test_certificates_out_of_their_time_are_named(
    tmp_path: Path, begins: dt.datetime, ends: dt.datetime, expected: str
) -> None:
    message = cause(rejection(*certificates(tmp_path, begins=begins, ends=ends)))

    assert f"{expected} by the clock of this host" in message


def test_an_unknown_authority_is_named_with_its_setting(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    ca, _ = certificates(tmp_path / "one")
    _, chain = certificates(tmp_path / "other")

    assert "VOIPEX_KAFKA_SSL_CA_FILE" in cause(rejection(ca, chain))
