"""
The ingress's certificate: two PEM files -> the TLS context of new connections, reloaded while others stay open.

A reload makes a new context; established connections keep the old one. The live context is not loaded again: a certificate that does not
fit its key leaves a context that fails every handshake.
"""

import contextlib
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from voipex.errors import SettingsInvalid
from voipex.service.watched_file import WatchedFiles

_ATTEMPTS: Final = 2  # certificate and key are two files: for a moment they may not belong together


@dataclass(frozen=True, slots=True)
class Reload:
    """Outcome of a reload; with a `fault` the old certificate stays in force, and an operator must act."""

    fault: str | None = None


class Certificate:
    """The certificate in force. One owner (the event loop); every call reads two small files at most, and blocks for that."""

    def __init__(self, cert_file: Path, key_file: Path) -> None:
        """
        Load it.

        Raises:
            SettingsInvalid: a file is missing, no PEM, or the key is another certificate's. Do not start.
        """
        self._cert_file, self._key_file = cert_file, key_file
        self._watched = WatchedFiles(cert_file, key_file)
        self._failures = 0
        """Of the files as they are now; 0 also once the fault was reported."""
        self.context: ssl.SSLContext = self._load()
        """For the next connection; take it anew for each."""
        self.until_s = self._expiry()
        """The end of its validity, in seconds since 1970; 0 when it was not valid when it was loaded, NaN when that cannot be read."""

    def reload_if_changed(self) -> Reload | None:
        """Reload if the files changed since the last look (also behind symbolic links); None otherwise. Call it every second or so."""
        if self._watched.changed():
            self._failures = 0
        elif not self._failures:
            return None
        fault = self._reload()
        if fault is not None:
            self._failures += 1
            if self._failures < _ATTEMPTS:
                return None
        self._failures = 0
        return Reload(fault)

    def reload(self) -> Reload:
        """Reload now (SIGHUP)."""
        self._watched.changed()
        self._failures = 0
        return Reload(self._reload())

    def _reload(self) -> str | None:
        try:
            self.context = self._load()
        except SettingsInvalid as error:
            return str(error)
        self.until_s = self._expiry()
        return None

    def _expiry(self) -> float:
        try:
            until_s = valid_until_s(self.context, self._cert_file)
        except ssl.SSLCertVerificationError:
            return 0.0
        return float("nan") if until_s is None else until_s

    def _load(self) -> ssl.SSLContext:
        cert_file, key_file = self._cert_file, self._key_file
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(cert_file, key_file, password=_no_password)
        except FileNotFoundError:
            missing = [str(file) for file in (cert_file, key_file) if not file.exists()]
            raise SettingsInvalid([f"the TLS certificate: {', '.join(missing)} does not exist"]) from None
        except ssl.SSLError as error:
            reason = (error.reason or "no PEM of a certificate and its key").replace("_", " ").lower()
            raise SettingsInvalid([f"the TLS certificate {cert_file} with {key_file}: {reason}"]) from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise SettingsInvalid([f"the TLS certificate {cert_file} with {key_file}: {reason}"]) from None
        return context


def valid_until_s(server: ssl.SSLContext, cert_file: Path) -> float | None:
    """
    Return the end of the certificate's validity, in seconds since 1970; None when it cannot be read.

    The standard library shows the certificate of a connection only, so this makes one in memory. The client trusts the certificate itself.

    Raises:
        ssl.SSLCertVerificationError: it is not valid now.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_side = server.wrap_bio(to_server, to_client, server_side=True)
    client_side = client.wrap_bio(to_client, to_server)
    try:
        client.load_verify_locations(cafile=cert_file)
        for side in (client_side, server_side, client_side):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
        peer = client_side.getpeercert()
    except ssl.SSLCertVerificationError:
        raise
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        return None
    return ssl.cert_time_to_seconds(str(peer["notAfter"])) if peer else None


def _no_password() -> NoReturn:
    """Without it OpenSSL would ask at a terminal, and wait."""
    raise ValueError("the key is encrypted; give one without a pass phrase, readable by its owner only")
