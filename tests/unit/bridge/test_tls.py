"""The certificate in use: loaded, renewed, and kept when a new file is unusable."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from bridge.http.tls import Certificate, Reload, valid_until_s
from voipex.errors import SettingsInvalid


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> tuple[Path, Path]:
    cert_file, key_file = tmp_path / "tls.crt", tmp_path / "tls.key"
    put(authority.issue_cert("localhost"), cert_file, key_file)
    return cert_file, key_file


def put(leaf: trustme.LeafCert, cert_file: Path, key_file: Path) -> None:
    cert_file.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    key_file.write_bytes(leaf.private_key_pem.bytes())


def test_unchanged_files_are_not_read_again(files: tuple[Path, Path]) -> None:
    certificate = Certificate(*files)
    context = certificate.context

    assert certificate.reload_if_changed() is None
    assert certificate.context is context


def test_renewed_files_make_a_new_context(files: tuple[Path, Path], authority: trustme.CA) -> None:
    certificate = Certificate(*files)
    context = certificate.context
    put(authority.issue_cert("localhost"), *files)

    assert certificate.reload_if_changed() == Reload()
    assert certificate.context is not context
    assert certificate.reload_if_changed() is None


def test_it_has_the_time_of_its_expiry(files: tuple[Path, Path], authority: trustme.CA) -> None:
    until = datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)
    put(authority.issue_cert("localhost", not_after=until), *files)
    certificate = Certificate(*files)
    assert certificate.until_s == until.timestamp()

    put(authority.issue_cert("localhost", not_after=until + timedelta(days=90)), *files)
    assert certificate.reload() == Reload()
    assert certificate.until_s == (until + timedelta(days=90)).timestamp()

    put(authority.issue_cert("localhost", not_after=datetime(2020, 1, 1, tzinfo=UTC)), *files)
    assert certificate.reload() == Reload()
    assert certificate.until_s == 0.0


def test_a_renewal_behind_a_link_is_seen(tmp_path: Path, authority: trustme.CA) -> None:
    """Kubernetes renews a mounted secret by swapping a link to a folder."""
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        put(authority.issue_cert("localhost"), tmp_path / version / "tls.crt", tmp_path / version / "tls.key")
    (tmp_path / "now").symlink_to("1")
    certificate = Certificate(tmp_path / "now" / "tls.crt", tmp_path / "now" / "tls.key")
    (tmp_path / "new").symlink_to("2")
    (tmp_path / "new").replace(tmp_path / "now")

    assert certificate.reload_if_changed() == Reload()


def test_a_key_that_comes_after_its_certificate_is_no_fault(
    files: tuple[Path, Path], authority: trustme.CA
) -> None:
    cert_file, key_file = files
    certificate = Certificate(*files)
    context = certificate.context
    leaf = authority.issue_cert("localhost")
    cert_file.write_bytes(leaf.cert_chain_pems[0].bytes())

    between = certificate.reload_if_changed()
    still = certificate.context
    key_file.write_bytes(leaf.private_key_pem.bytes())

    assert between is None
    assert still is context
    assert certificate.reload_if_changed() == Reload()
    assert certificate.context is not context


def test_a_failed_renewal_keeps_the_certificate_and_reports_once(files: tuple[Path, Path]) -> None:
    certificate = Certificate(*files)
    context = certificate.context
    files[0].write_text("no certificate")

    reloads = [certificate.reload_if_changed() for _ in range(5)]

    faults = [each.fault for each in reloads if each is not None]
    assert len(faults) == 1
    assert str(files[0]) in str(faults[0])
    assert certificate.context is context


def test_handshakes_succeed_after_a_failed_reload(
    files: tuple[Path, Path], tmp_path: Path, authority: trustme.CA
) -> None:
    """If the certificate were loaded into the context in use without its key, all of them would fail."""
    certificate = Certificate(*files)
    old = tmp_path / "old.crt"
    old.write_bytes(files[0].read_bytes())
    files[0].write_bytes(authority.issue_cert("localhost").cert_chain_pems[0].bytes())

    failed = certificate.reload()

    assert failed.fault is not None
    assert valid_until_s(certificate.context, old) == certificate.until_s


def test_sighup_reloads_at_once(files: tuple[Path, Path]) -> None:
    certificate = Certificate(*files)
    before = certificate.reload()
    files[1].unlink()
    after = certificate.reload()

    assert before == Reload()
    assert after.fault is not None
    assert "does not exist" in after.fault


@pytest.mark.parametrize("fault", ["missing", "not pem", "other key", "encrypted", "folder"])
def test_a_start_with_a_bad_certificate_is_refused_with_reason(
    files: tuple[Path, Path], authority: trustme.CA, fault: str
) -> None:
    cert_file, key_file = files
    if fault == "missing":
        key_file.unlink()
    elif fault == "not pem":
        cert_file.write_text("nonsense")
    elif fault == "other key":
        key_file.write_bytes(authority.issue_cert("localhost").private_key_pem.bytes())
    elif fault == "encrypted":
        key = load_pem_private_key(key_file.read_bytes(), None)
        key_file.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pass"))
        )
    else:
        key_file.unlink()
        key_file.mkdir()

    with pytest.raises(SettingsInvalid) as caught:
        Certificate(*files)

    assert os.fspath(key_file) in str(caught.value) or os.fspath(cert_file) in str(caught.value)
    assert "PRIVATE KEY" not in str(caught.value)
