"""Check this host: the spool and its disk, the credentials, the certificate and the ports. All functions block."""

import contextlib
import os
import shutil
import ssl
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from bridge.auth.store import CredentialStore
from bridge.http.tls import Certificate, valid_until_s
from bridge.ops.doctor.report import Check, format_bytes, reason_of, skipped
from bridge.ops.doctor.running import check_running
from bridge.settings import Settings
from bridge.spool.inspect import SEGMENT_BYTES, SpoolStatus, inspect, lacks_room, quarantined
from bridge.spool.segments import Files
from voipex.errors import BridgeError, CredentialsInvalid, SettingsInvalid
from voipex.service import health
from voipex.service.ports import bind_error
from voipex.service.settings import variable_of
from voipex.timestamps import format_rfc3339

_SPOOL_CHECKS: Final = ("spool directory", "spool disk", "spool space", "spool")
_OF_DISK: Final = ("spool disk", "spool space")
CHECKS: Final = (*_SPOOL_CHECKS, "credentials", "certificate", "ports", "bridge")

_SYNCS: Final = 20
_SYNC_BYTES: Final = 4096
_SLOW_SYNC_MS: Final = 10.0  # a response waits for one sync, and the promise is a p99 of 10 ms
_LATE_S: Final = 60.0
_EXPIRES_SOON_DAYS: Final = 14
_LIVE_TIMEOUT_S: Final = 2.0
_VOLATILE: Final = {"tmpfs": "memory", "ramfs": "memory", "overlay": "the container's own layer"}


def check_host(settings: Settings, now_us: int, *, any_disk: bool = False) -> Iterator[Check]:
    """Yield the results of all checks of this module. `any_disk`: the spool need not be on a fast disk that survives a restart."""
    spools_in_use: tuple[str, ...] = ()
    if settings.ack == "kafka":
        yield from skipped(_SPOOL_CHECKS, f"{variable_of('ack')}=kafka uses no disk")
    else:
        checks, spools_in_use = _check_spool(settings, now_us)
        yield from (_accept(each) if any_disk and each.name in _OF_DISK else each for each in checks)
    yield from check_credentials(settings)
    yield check_certificate(settings, now_us)
    yield from _check_ports(settings, spools_in_use)
    yield from check_running(settings)


def _accept(check: Check) -> Check:
    return Check(check.name, "ok", check.message) if check.verdict == "warning" else check


# ---------------------------------------------------------------- spool


def _check_spool(settings: Settings, now_us: int) -> tuple[list[Check], tuple[str, ...]]:
    """Return the results, and the ids of the spools that running bridges hold."""
    directory = _check_directory(settings.spool_dir)
    if directory.verdict == "error":
        return [directory, *skipped(_SPOOL_CHECKS[1:], "the spool directory cannot be used")], ()
    existing = _nearest_existing(settings.spool_dir)
    checks = [directory, check_disk(existing)]
    try:
        spools = inspect(settings.spool_dir, lambda: now_us / 1e6)
    except (BridgeError, OSError) as error:
        remedy = (
            "run doctor as the bridge's user; drain the spool with the version of the bridge that wrote it"
        )
        checks += skipped(("spool space",), "the spool cannot be read")
        return [*checks, Check("spool", "error", reason_of(error), remedy)], ()
    checks += [
        rate_space(
            shutil.disk_usage(existing).free, sum(each.bytes for each in spools), settings.spool_limit_bytes
        ),
        _check_backlog(settings, spools),
    ]
    return checks, tuple(each.spool_id for each in spools if each.in_use)


def _check_directory(directory: Path) -> Check:
    name = "spool directory"
    remedy = f"make the bridge's user its owner, or set {variable_of('spool_dir')} to another directory"
    existing = _nearest_existing(directory)
    if not existing.is_dir():
        return Check(name, "error", f"{existing} is not a directory", remedy)
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Check(name, "error", f"{existing} is not writable: {reason_of(error)}", remedy)
    if existing != directory:
        return Check(name, "ok", f"{directory} does not exist yet; the first start creates it")
    return Check(name, "ok", f"{directory} is writable")


def _nearest_existing(directory: Path) -> Path:
    """Return the directory itself, or its nearest parent that exists."""
    return next(each for each in (directory, *directory.absolute().parents) if each.exists())


def check_disk(directory: Path) -> Check:
    """Time fdatasync on the disk that holds *directory*, and look at its file system."""
    try:
        sync_ms = statistics.median(_time_syncs_s(directory)) * 1000
    except OSError as error:
        message = f"write or fdatasync fails: {reason_of(error)}"
        return Check("spool disk", "error", message, "check the disk and its quota")
    return rate_disk(sync_ms, file_system_of(directory, _read_mounts()))


def rate_disk(sync_ms: float, file_system: str | None) -> Check:
    """Return the result for a median duration of fdatasync and a type of file system."""
    message = f"write and fdatasync take {sync_ms:.2f} ms (median of {_SYNCS})"
    if file_system in _VOLATILE:
        return Check(
            "spool disk",
            "warning",
            f"{message}; it is {file_system} ({_VOLATILE[file_system]}): waiting events are lost with it",
            f"set {variable_of('spool_dir')} to a directory on a disk or volume that survives a restart",
        )
    if sync_ms > _SLOW_SYNC_MS:
        return Check(
            "spool disk",
            "warning",
            f"{message}; every response to the PBX waits for one",
            "use a faster disk that nothing else uses; network disks are slow at fdatasync",
        )
    return Check("spool disk", "ok", message)


def _time_syncs_s(directory: Path) -> list[float]:
    """Write as the spool does, into preallocated space with one sync per write; return the duration of each."""
    durations_s = []
    page = os.urandom(_SYNC_BYTES)
    files = Files()
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        fd = file.fileno()
        with contextlib.suppress(OSError):  # the spool does without it, too
            files.allocate(fd, _SYNCS * _SYNC_BYTES)
        os.fsync(fd)
        for number in range(_SYNCS):
            started = time.perf_counter()
            files.write(fd, page, number * _SYNC_BYTES)
            files.sync(fd)
            durations_s.append(time.perf_counter() - started)
    return durations_s


def _read_mounts() -> str:
    try:
        return Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return ""


def file_system_of(directory: Path, mounts: str) -> str | None:
    """Return the type of the file system that holds *directory*, from the lines of `/proc/self/mounts`; None if no line matches."""
    longest, kind = -1, None
    resolved = directory.resolve()
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        if (
            resolved.is_relative_to(point) and len(point) >= longest
        ):  # a later mount on one point hides the earlier
            longest, kind = len(point), fields[2]
    return kind


def rate_space(free: int, used: int, limit: int) -> Check:
    """Return the result for the bytes that are free on the disk, used by the spool, and the spool's limit."""
    message = (
        f"{format_bytes(free)} free, {format_bytes(used)} used by the spool, limit {format_bytes(limit)}"
    )
    remedy = f"free some space, or set {variable_of('spool_limit_bytes')} well below the free space"
    if free < 2 * SEGMENT_BYTES:
        return Check("spool space", "error", f"{message}: not enough for two segments", remedy)
    if lacks_room(free, used, limit):
        message += ": the disk would be full before the limit is reached"
        return Check("spool space", "warning", message, remedy)
    return Check("spool space", "ok", message)


def _check_backlog(settings: Settings, spools: Sequence[SpoolStatus]) -> Check:
    corrupt = quarantined(settings.spool_dir)
    if corrupt:
        return Check(
            "spool",
            "warning",
            f"{len(corrupt)} corrupt files are in {corrupt[0].parent}: events in them may be lost",
            "check the disk; delete the files once nobody needs them any more",
        )
    waiting = sum(each.waiting_records for each in spools)
    if not waiting:
        return Check("spool", "ok", "nothing waits for Kafka")
    oldest_s = max((each.oldest_age_s for each in spools if each.oldest_age_s is not None), default=0.0)
    message = f"{waiting} waiting for Kafka, the oldest for {oldest_s:.0f} s"
    if not any(each.in_use for each in spools):
        return Check(
            "spool", "warning", f"{message}, and no bridge is running", "start the bridge: it publishes them"
        )
    if oldest_s > _LATE_S or sum(each.bytes for each in spools) > settings.spool_limit_bytes / 2:
        return Check("spool", "warning", message, "see the bridge's log and the checks of Kafka below")
    return Check("spool", "ok", message)


# ---------------------------------------------------------------- credentials, certificate, ports


def check_credentials(settings: Settings) -> Iterator[Check]:
    """Load the credentials file, and check who can read it and that each PBX has a credential."""
    name, path = "credentials", settings.credentials_file
    try:
        store = CredentialStore(path, settings.pbxs)
    except CredentialsInvalid as error:
        yield Check(
            name,
            "error",
            str(error),
            "voipex-bridge credentials create|list|revoke; or correct VOIPEX_CREDENTIALS_FILE and VOIPEX_PBXS",
        )
        return
    principals = store.credentials.principals()
    warned = False
    if store.readable_by != "owner":
        warned = True
        yield Check(
            name,
            "warning",
            f"{path} can be read by {'its group' if store.readable_by == 'group' else 'everyone'}",
            f"chmod 600 {path} (a Kubernetes secret volume may stay as it is)",
        )
    without = [pbx for pbx in settings.pbxs if not any(each.pbx == pbx for each in principals)]
    if without:
        warned = True
        yield Check(
            name,
            "warning",
            f"no credential for {', '.join(without)}: its events cannot be posted",
            f"voipex-bridge credentials create NAME --pbx {without[0]}",
        )
    if not warned:
        yield Check(name, "ok", f"{len(principals)} in {path}, for {', '.join(settings.pbxs)}")


def check_certificate(settings: Settings, now_us: int) -> Check:
    """Load the certificate of the public port, and check how long it stays valid."""
    name, cert_file, key_file = "certificate", settings.tls_cert_file, settings.tls_key_file
    if cert_file is None or key_file is None:
        return Check(
            name,
            "ok",
            "none: the public port speaks HTTP; terminate TLS in front of it, or use a private network",
        )
    remedy = "renew it; a running bridge reloads the files within seconds"
    try:
        context = Certificate(cert_file, key_file).context
    except SettingsInvalid as error:
        return Check(
            name,
            "error",
            str(error),
            f"correct {variable_of('tls_cert_file')} and {variable_of('tls_key_file')}",
        )
    try:
        until_s = valid_until_s(context, cert_file)
    except ssl.SSLCertVerificationError as error:
        return Check(name, "error", f"{cert_file}: {error.verify_message}", remedy)
    if until_s is None:
        return Check(name, "ok", f"{cert_file} can be loaded; its expiry date could not be read")
    days_left = (until_s - now_us / 1e6) / 86_400
    message = f"{cert_file} is valid until {format_rfc3339(int(until_s) * 1_000_000)}"
    if days_left >= _EXPIRES_SOON_DAYS:
        return Check(name, "ok", message)
    return Check(name, "error" if days_left < 0 else "warning", message, remedy)


def _check_ports(settings: Settings, spools_in_use: Sequence[str]) -> Iterator[Check]:
    management_host = settings.management_host or settings.host
    if spools_in_use:
        yield from skipped(("ports",), f"a bridge is running; it holds spool {', '.join(spools_in_use)}")
        return
    if (
        settings.ack == "kafka"
        and health.probe(management_host, settings.management_port, "live", _LIVE_TIMEOUT_S).ok
    ):
        yield from skipped(("ports",), "a bridge is running; its management port answers")
        return
    addresses = (
        ("port", settings.host, settings.port),
        ("management_port", management_host, settings.management_port),
    )
    all_free = True
    for setting, host, port in addresses:
        reason = bind_error(host, port)
        if reason is not None:
            all_free = False
            yield Check(
                "ports",
                "error",
                f"cannot listen on {host}:{port}: {reason}",
                f"stop the process that uses it, or set {variable_of(setting)} to another port",
            )
    if all_free:
        yield Check(
            "ports", "ok", f"{' and '.join(f'{host}:{port}' for _, host, port in addresses)} are free"
        )
