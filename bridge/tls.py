"""
The front door's certificate: two PEM files -> the TLS context of new connections, renewed while others stay open.

A renewal is a new context; the old one lives on in the connections that were made with it. A file that cannot be used changes nothing.
"""

import contextlib
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from voipex.errors import SettingsInvalid

_LOOKS: Final = 2  # certificate and key are two files: for a moment they may not belong together

_Stamp = tuple[tuple[int, int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class Renewal:
    """What came of changed files; with a `fault` the old certificate stays in force, and a person must act."""

    fault: str | None = None


class Certificate:
    """The certificate in force. One owner (the event loop); every call reads two small files at most, and blocks for that."""

    def __init__(self, cert_file: Path, key_file: Path) -> None:
        """
        Load it.

        Raises:
            SettingsInvalid: a file is missing, no PEM, or the key is another certificate's. Do not start.
        """
        self._files = (cert_file, key_file)
        self._stamp = _stamp_of(self._files)
        self._faults = 0
        self.context: ssl.SSLContext = self._loaded()
        """For the next connection; take it anew for each."""
        self.until_s = self._end_of(self.context)
        """The end of its validity, in seconds since 1970; 0 when it was not valid when it was loaded, NaN when that cannot be read."""

    def renew_if_changed(self) -> Renewal | None:
        """Take the files if they are others than at the last look (also behind links); None if not. Call it every second or so."""
        stamp = _stamp_of(self._files)
        if stamp == self._stamp and not self._faults:
            return None
        return self._renewed(stamp, patient=True)

    def renew(self) -> Renewal:
        """Take the files as they are now (SIGHUP)."""
        renewal = self._renewed(_stamp_of(self._files), patient=False)
        assert renewal is not None  # noqa: S101  # not patient
        return renewal

    def _renewed(self, stamp: _Stamp, *, patient: bool) -> Renewal | None:
        if stamp != self._stamp:
            self._faults = 0
        self._stamp = stamp
        try:
            self.context = self._loaded()
        except SettingsInvalid as error:
            self._faults += 1
            if patient and self._faults < _LOOKS:
                return None
            self._faults = 0  # said once
            return Renewal(str(error))
        self._faults = 0
        self.until_s = self._end_of(self.context)
        return Renewal()

    def _end_of(self, context: ssl.SSLContext) -> float:
        try:
            until_s = valid_until_s(context, self._files[0])
        except ssl.SSLCertVerificationError:
            return 0.0
        return float("nan") if until_s is None else until_s

    def _loaded(self) -> ssl.SSLContext:
        cert_file, key_file = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(cert_file, key_file, password=_no_password)
        except FileNotFoundError:
            missing = [str(file) for file in self._files if not file.exists()]
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
    Shake hands with ourselves, since the standard library reads certificates of a connection only; None when that fails.

    Trusted is the certificate itself, so nothing but its dates can be wrong: SSLCertVerificationError.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server)
    try:
        client.load_verify_locations(cafile=cert_file)
        for side in (theirs, ours, theirs):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
        peer = theirs.getpeercert()
    except ssl.SSLCertVerificationError:
        raise
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        return None
    return ssl.cert_time_to_seconds(str(peer["notAfter"])) if peer else None


def _no_password() -> NoReturn:
    """Else OpenSSL would ask at a terminal, and wait."""
    raise ValueError("the key is encrypted; give one without a pass phrase, readable by its owner only")


def _stamp_of(files: tuple[Path, ...]) -> _Stamp:
    stamps: list[tuple[int, int, int, int] | None] = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            stamps.append(None)
        else:
            stamps.append((status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(stamps)
