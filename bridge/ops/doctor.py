"""
`voipex-bridge doctor`: everything that the bridge needs, looked at in the order in which it is needed, and for each fault what to do.

It only looks. No event is written, no topic made; the file that times the disk has no name and is gone whatever happens. So it may be
asked at any time, also beside a running bridge. What it does not look at, because something before it is wrong, it says.

A fault keeps the bridge from starting, or from doing its work. A warning is what a person should know before it becomes one.
"""

import asyncio
import http.client
import os
import shutil
import socket
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from bridge.auth.store import CredentialStore
from bridge.settings import Settings, load
from bridge.spool import spool
from bridge.tls import Certificate, valid_until_s
from voipex.errors import BridgeError, CredentialsInvalid, KafkaUnreachable, SettingsInvalid
from voipex.kafka import permissions
from voipex.kafka.admin import Cluster, acl_command
from voipex.kafka.diagnostics import reach
from voipex.kafka.permissions import Examination, Standing
from voipex.kafka.topics import TopicState, check_topics, list_topics
from voipex.service.settings import unknown_variables, variable_of
from voipex.timestamps import rfc3339
from voipex.topics import DEAD_LETTERS, WRITTEN, Topic

Verdict = Literal["ok", "warning", "fault", "skipped"]

_SYNCS: Final = 20
_SYNC_BYTES: Final = 4096
_SLOW_SYNC_MS: Final = 10.0  # every answer waits for one; the promise is a p99 of 10 ms
_SEGMENT_BYTES: Final = 32 << 20  # the spool allocates that much at a time
_LATE_S: Final = 60.0
_SOON_DAYS: Final = 14
_CLOCK_SLACK_US: Final = 2_000_000
_EARLIEST_US: Final = 1_735_689_600_000_000  # 2025-01-01: this program is younger
_LATEST_US: Final = 4_102_444_800_000_000  # 2100-01-01
_OLDEST_TESTED: Final = (4, 0)
_PASSING: Final = {"tmpfs": "memory", "ramfs": "memory", "overlay": "a container's own layer"}
_SPOOL_CHECKS: Final = ("spool directory", "spool disk", "spool space", "spool")
_LOCAL_CHECKS: Final = (*_SPOOL_CHECKS, "credentials", "certificate", "clock", "ports")
_KAFKA_CHECKS: Final = ("kafka", "cluster", "rights", "topics")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and what to do about it."""

    check: str
    verdict: Verdict
    found: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    findings: tuple[Finding, ...]

    def count(self, verdict: Verdict) -> int:
        return sum(finding.verdict == verdict for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """0: no fault, 1: faults, 2: the settings themselves are wrong."""
        if any(each.check == "settings" and each.verdict == "fault" for each in self.findings):
            return 2
        return 1 if self.count("fault") else 0


def examine(*, offline: bool, now_us: int) -> Report:
    """Look at everything; without Kafka if `offline`. Blocks for a few seconds at most, the longest for addresses that do not answer."""
    try:
        settings = load()
    except SettingsInvalid as error:
        return Report(
            (
                *(
                    Finding("settings", "fault", fault, "docs/settings.md lists them all")
                    for fault in error.faults
                ),
                *_not_looked_at((*_LOCAL_CHECKS, *_KAFKA_CHECKS), "the settings are wrong"),
            )
        )
    findings = [*_settings(), *_local(settings, now_us)]
    if offline:
        findings += _not_looked_at(_KAFKA_CHECKS, "--offline")
    else:
        findings += asyncio.run(_kafka(settings))
    return Report(tuple(findings))


def _not_looked_at(checks: Iterable[str], why: str) -> list[Finding]:
    return [Finding(check, "skipped", f"not looked at: {why}") for check in checks]


def _settings() -> Iterator[Finding]:
    unknown = tuple(unknown_variables())
    if not unknown:
        yield Finding("settings", "ok", "all can be read")
    for line in unknown:
        yield Finding("settings", "warning", line, "correct its name, or take it away")


# ---------------------------------------------------------------- this machine


def _local(settings: Settings, now_us: int) -> Iterator[Finding]:
    held: tuple[str, ...] = ()
    if settings.ack == "kafka":
        yield from _not_looked_at(_SPOOL_CHECKS, f"{variable_of('ack')}=kafka keeps nothing on disk")
    else:
        findings, held = _spool(settings, now_us)
        yield from findings
    yield from _credentials(settings)
    yield _certificate(settings, now_us)
    yield _clock(settings, now_us)
    yield from _ports(settings, held)


def _spool(settings: Settings, now_us: int) -> tuple[list[Finding], tuple[str, ...]]:
    """What is found, and which spools are held by running bridges."""
    folder = _spool_folder(settings.spool_dir)
    if folder.verdict == "fault":
        return [folder, *_not_looked_at(_SPOOL_CHECKS[1:], "the spool directory has a fault")], ()
    there = _nearest(settings.spool_dir)
    findings = [folder, _disk(there)]
    try:
        spools = spool.inspect(settings.spool_dir, lambda: now_us / 1e6)
    except (BridgeError, OSError) as error:
        remedy = (
            "run doctor as the bridge's user; drain the spool with the version of the bridge that wrote it"
        )
        findings += _not_looked_at(("spool space",), "the spool cannot be read")
        return [*findings, Finding("spool", "fault", _said(error), remedy)], ()
    findings += [_space(there, settings, sum(each.bytes for each in spools)), _backlog(settings, spools)]
    return findings, tuple(each.spool_id for each in spools if each.in_use)


def _spool_folder(folder: Path) -> Finding:
    check = "spool directory"
    remedy = f"give it to the user that runs the bridge, or set {variable_of('spool_dir')} to another one"
    there = _nearest(folder)
    if not there.is_dir():
        return Finding(check, "fault", f"{there} is no directory", remedy)
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return Finding(check, "fault", f"{there} cannot be written to: {_said(error)}", remedy)
    if there != folder:
        return Finding(check, "ok", f"{folder} is not there yet; the first start makes it")
    return Finding(check, "ok", f"{folder} can be written to")


def _nearest(folder: Path) -> Path:
    """The folder itself, or what exists above it."""
    return next(each for each in (folder, *folder.absolute().parents) if each.exists())


def _disk(folder: Path) -> Finding:
    check = "spool disk"
    try:
        took_ms = statistics.median(_syncs_s(folder)) * 1000
    except OSError as error:
        return Finding(
            check, "fault", f"it refuses to write and sync: {_said(error)}", "check the disk and its quota"
        )
    found = f"write and fdatasync take {took_ms:.2f} ms (median of {_SYNCS})"
    kind = file_system_of(folder, _mounts())
    if kind in _PASSING:
        return Finding(
            check,
            "warning",
            f"{found}; it is {kind}, {_PASSING[kind]}: what waits there does not survive",
            f"set {variable_of('spool_dir')} to a folder on a disk or volume that outlives this machine's restart",
        )
    if took_ms > _SLOW_SYNC_MS:
        return Finding(
            check,
            "warning",
            f"{found}; every answer to the PBX waits for one",
            "use a faster disk, not shared with others; network disks are slow at this",
        )
    return Finding(check, "ok", found)


def _syncs_s(folder: Path) -> list[float]:
    """As the spool writes: into room that is allocated ahead, one sync after each write."""
    took = []
    page = os.urandom(_SYNC_BYTES)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        fd = file.fileno()
        file.write(bytes(_SYNCS * _SYNC_BYTES))
        os.fsync(fd)
        file.seek(0)
        for _ in range(_SYNCS):
            started = time.perf_counter()
            file.write(page)
            _sync(fd)
            took.append(time.perf_counter() - started)
    return took


_sync: Final[Callable[[int], None]] = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


def _mounts() -> str:
    try:
        return Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return ""


def file_system_of(folder: Path, mounts: str) -> str | None:
    """Type of the file system that *folder* lies on, by the lines of `/proc/self/mounts`; None when they do not tell."""
    best, kind = -1, None
    resolved = folder.resolve()
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        if resolved.is_relative_to(point) and len(point) >= best:  # of two on one point the later one counts
            best, kind = len(point), fields[2]
    return kind


def _space(folder: Path, settings: Settings, spool_bytes: int) -> Finding:
    limit = settings.spool_limit_bytes
    free = shutil.disk_usage(folder).free
    found = f"{_size(free)} free, {_size(spool_bytes)} used by the spool, limit {_size(limit)}"
    remedy = f"make room, or set {variable_of('spool_limit_bytes')} well below what is free"
    if free < 2 * _SEGMENT_BYTES:
        return Finding("spool space", "fault", f"{found}: there is no room for two segments", remedy)
    if free + spool_bytes < limit + _SEGMENT_BYTES:
        return Finding(
            "spool space", "warning", f"{found}: the disk would be full before the limit is reached", remedy
        )
    return Finding("spool space", "ok", found)


def _backlog(settings: Settings, spools: Sequence[spool.SpoolStatus]) -> Finding:
    damaged = sum(1 for _ in settings.spool_dir.glob("damaged/*"))
    if damaged:
        return Finding(
            "spool",
            "warning",
            f"{damaged} damaged files lie in {settings.spool_dir / 'damaged'}: events in them may be lost",
            "check the disk; keep the files for those who ask, then delete them",
        )
    waiting = sum(each.waiting_records for each in spools)
    if not waiting:
        return Finding("spool", "ok", "nothing waits for Kafka")
    oldest_s = max((each.oldest_age_s for each in spools if each.oldest_age_s is not None), default=0.0)
    found = f"{waiting} waiting for Kafka, the oldest for {oldest_s:.0f} s"
    if not any(each.in_use for each in spools):
        return Finding(
            "spool", "warning", f"{found}, and no bridge runs", "start the bridge: it publishes them"
        )
    if oldest_s > _LATE_S or sum(each.bytes for each in spools) > settings.spool_limit_bytes / 2:
        return Finding(
            "spool", "warning", found, "bring Kafka back; see the bridge's log and the checks below"
        )
    return Finding("spool", "ok", found)


def _credentials(settings: Settings) -> Iterator[Finding]:
    check, path = "credentials", settings.credentials_file
    try:
        store = CredentialStore(path, settings.pbxs)
    except CredentialsInvalid as error:
        yield Finding(
            check,
            "fault",
            str(error),
            "voipex-bridge credentials create|list|revoke; or set VOIPEX_CREDENTIALS_FILE and VOIPEX_PBXS to what is meant",
        )
        return
    callers = store.credentials.principals()
    faults = False
    if store.readable_by != "owner":
        faults = True
        yield Finding(
            check,
            "warning",
            f"{path} can be read by {'the group' if store.readable_by == 'group' else 'everyone'}",
            f"chmod 600 {path} (a secret volume of Kubernetes may be like that)",
        )
    silent = [pbx for pbx in settings.pbxs if not any(caller.pbx == pbx for caller in callers)]
    if silent:
        faults = True
        yield Finding(
            check,
            "warning",
            f"no credential for {', '.join(silent)}: nobody can post events of it",
            f"voipex-bridge credentials create NAME --pbx {silent[0]}",
        )
    if not faults:
        yield Finding(check, "ok", f"{len(callers)} in {path}, for {', '.join(settings.pbxs)}")


def _certificate(settings: Settings, now_us: int) -> Finding:
    check, cert_file, key_file = "certificate", settings.tls_cert_file, settings.tls_key_file
    if cert_file is None or key_file is None:
        return Finding(
            check,
            "ok",
            "none: the front door speaks HTTP; encrypt in front of it, or on a network of your own",
        )
    remedy = "renew it; a running bridge takes new files within seconds"
    try:
        context = Certificate(cert_file, key_file).context
    except SettingsInvalid as error:
        return Finding(
            check,
            "fault",
            str(error),
            f"correct {variable_of('tls_cert_file')} and {variable_of('tls_key_file')}",
        )
    try:
        until_s = valid_until_s(context, cert_file)
    except ssl.SSLCertVerificationError as error:
        return Finding(check, "fault", f"{cert_file}: {error.verify_message}", remedy)
    if until_s is None:
        return Finding(check, "ok", f"{cert_file} can be used; until when it is valid could not be read")
    days = (until_s - now_us / 1e6) / 86_400
    found = f"{cert_file} is valid until {rfc3339(int(until_s) * 1_000_000)}"
    if days < 0:
        return Finding(check, "fault", found, remedy)
    return Finding(
        check, "warning" if days < _SOON_DAYS else "ok", found, remedy if days < _SOON_DAYS else None
    )


def _clock(settings: Settings, now_us: int) -> Finding:
    """Only what can be known here: Kafka's answers carry no time of the brokers."""
    now = rfc3339(now_us) if now_us >= 0 else "before 1970"
    remedy = "synchronise the clock (chrony, systemd-timesyncd): it is the time of every event"
    if not _EARLIEST_US <= now_us < _LATEST_US:
        return Finding("clock", "fault", f"it says {now}", remedy)
    newest = max(_modified(settings), key=lambda pair: pair[0], default=None)
    if newest is not None and newest[0] > now_us + _CLOCK_SLACK_US:
        return Finding(
            "clock", "warning", f"it says {now}, but {newest[1]} was written at {rfc3339(newest[0])}", remedy
        )
    return Finding("clock", "ok", f"it says {now}; no file of ours is younger")


def _modified(settings: Settings) -> Iterator[tuple[int, Path]]:
    for path in (Path(__file__), settings.credentials_file, *settings.spool_dir.glob("*/*")):
        try:
            yield path.stat().st_mtime_ns // 1000, path
        except OSError:  # not there, or published meanwhile
            continue


def _ports(settings: Settings, held: Sequence[str]) -> Iterator[Finding]:
    if held:
        yield Finding("ports", "skipped", f"not looked at: a bridge runs; it holds spool {', '.join(held)}")
        return
    if settings.ack == "kafka" and _lives(settings):
        yield Finding("ports", "skipped", "not looked at: a bridge runs; it answers at its management port")
        return
    places = (
        ("port", settings.host, settings.port),
        ("management_port", settings.management_host or settings.host, settings.management_port),
    )
    taken = False
    for setting, host, port in places:
        fault = _cannot_listen(host, port)
        if fault is not None:
            taken = True
            yield Finding(
                "ports",
                "fault",
                f"cannot listen on {host}:{port}: {fault}",
                f"stop what listens there, or set {variable_of(setting)} to another port",
            )
    if not taken:
        yield Finding("ports", "ok", f"{' and '.join(f'{host}:{port}' for _, host, port in places)} are free")


def _lives(settings: Settings) -> bool:
    host = settings.management_host or settings.host
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - what is listened on is asked at home
    connection = http.client.HTTPConnection(host, settings.management_port, timeout=2)
    try:
        connection.request("GET", "/live")
        return connection.getresponse().read() == b'{"live":true}'
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _cannot_listen(host: str, port: int) -> str | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
    except OSError as error:
        return _said(error)
    return None


# ---------------------------------------------------------------- Kafka


async def _kafka(settings: Settings) -> list[Finding]:
    remedy = (
        "see that the broker runs and answers there; check VOIPEX_KAFKA_BOOTSTRAP_SERVERS, VOIPEX_KAFKA_SSL_*, VOIPEX_KAFKA_SASL_*. "
        + (
            "Events wait in the spool meanwhile"
            if settings.ack == "spool"
            else "No event is accepted meanwhile"
        )
    )
    rest = ("cluster", "rights", "topics")
    try:
        reached = await reach(settings)
    except KafkaUnreachable as error:
        return [Finding("kafka", "fault", str(error), remedy), *_not_looked_at(rest, "Kafka is out of reach")]
    some = any(cause is None for cause in reached.values())
    findings = [
        Finding("kafka", "ok", f"{address} answers")
        if cause is None
        else Finding("kafka", "warning" if some else "fault", f"{address} {cause}", remedy)
        for address, cause in reached.items()
    ]
    if not some:
        return [*findings, *_not_looked_at(rest, "Kafka is out of reach")]
    topics = settings.topics()
    try:
        found = await permissions.examine(settings, [topic.name for topic in topics])
        advertised = await _advertised(settings, found.cluster, reached)
        findings += [*advertised, _cluster(found), _rights(settings, topics, found.topics)]
        findings += await _topics(settings, topics, found.topics)
    except BridgeError as error:
        done = {finding.check for finding in findings}
        first, *others = [check for check in rest if check not in done]
        findings += [Finding(first, "fault", str(error), remedy), *_not_looked_at(others, "Kafka refused")]
    return findings


async def _advertised(settings: Settings, cluster: Cluster, asked: Iterable[str]) -> list[Finding]:
    """Clients are sent on to the addresses that the brokers name; those that no setting names are easily out of reach."""
    others = [address for address in cluster.brokers if address not in set(asked)]
    if not others:
        return []
    reached = await reach(settings, ",".join(others))
    return [
        Finding("kafka", "ok", f"{address} answers; a broker names it")
        if cause is None
        else Finding(
            "kafka",
            "fault",
            f"{address}, which a broker names as its own address, {cause}",
            "correct advertised.listeners of that broker, name resolution, or the network in between",
        )
        for address, cause in reached.items()
    ]


def _cluster(found: Examination) -> Finding:
    cluster = found.cluster
    number = "1 broker" if len(cluster.brokers) == 1 else f"{len(cluster.brokers)} brokers"
    told = f"{cluster.cluster_id}: {number}, Kafka {found.release or 'of a release that it does not say'}"
    if found.release is None or tuple(map(int, found.release.split("."))) < _OLDEST_TESTED:
        return Finding(
            "cluster",
            "warning",
            told,
            "the bridge is tested with Kafka 4; try it there before you rely on it",
        )
    return Finding("cluster", "ok", told)


def missing_rights(topics: Sequence[Topic], standings: Iterable[Standing]) -> dict[str, list[str]]:
    """Right -> topics on which it is missing, as far as the brokers say. Topics that are not there have none to miss."""
    seen = {standing.name: standing for standing in standings}
    missing: dict[str, list[str]] = {}
    for topic in topics:
        kind, standing = topic.kind, seen[topic.name]
        # The bridge writes; comparing all declared topics is for `topics` and for us; replaying reads what was kept.
        needed = ["Describe", "DescribeConfigs"]
        needed += ["Write"] if kind in WRITTEN else []
        needed += ["Read"] if kind is DEAD_LETTERS else []
        if standing.hidden:
            has: frozenset[str] | None = frozenset()
        else:
            has = standing.rights if standing.refusal is None else None
        for right in needed:
            if has is not None and right not in has:
                missing.setdefault(right, []).append(standing.name)
    return missing


def _by_topics(missing: Mapping[str, Sequence[str]]) -> dict[tuple[str, ...], list[str]]:
    """The same, with the rights together that are missing on the same topics."""
    grouped: dict[tuple[str, ...], list[str]] = {}
    for right, names in missing.items():
        grouped.setdefault(tuple(names), []).append(right)
    return grouped


def _rights(settings: Settings, topics: Sequence[Topic], standings: Sequence[Standing]) -> Finding:
    missing = missing_rights(topics, standings)
    if missing:
        first = "Write" if "Write" in missing else next(iter(missing))
        found = "; ".join(
            f"{' and '.join(rights)} on {f'all {len(names)} topics' if len(names) == len(topics) else ', '.join(names)}"
            for names, rights in _by_topics(missing).items()
        )
        remedy = f"{acl_command(settings, first, missing[first])}; docs/operations.md lists all rights"
        if "Write" in missing:
            return Finding("rights", "fault", f"missing: {found}", remedy)
        # Kafka's own rule: who may write to a topic may describe it.
        found += "; the bridge does not need that, `topics`, `doctor`, `dead-letters` and `tail` do"
        return Finding("rights", "warning", f"missing: {found}", remedy)
    if all(each.refusal is not None or each.rights is None for each in standings):
        return Finding("rights", "skipped", "not known: no topic is there, or the brokers do not say")
    return Finding("rights", "ok", "to describe all topics, to write to those of events and dead letters")


async def _topics(
    settings: Settings, topics: Sequence[Topic], standings: Sequence[Standing]
) -> list[Finding]:
    seen = {each.name: each for each in standings}
    hidden = [topic for topic in topics if seen[topic.name].hidden]
    visible = [topic for topic in topics if topic not in hidden]
    untold = [topic for topic in visible if seen[topic.name].settings_hidden]
    states = {
        state.name: state
        for state in await list_topics(
            settings,
            {topic.name for topic in visible},
            with_settings={topic.name for topic in visible if topic not in untold},
        )
    }
    missing = [topic.name for topic in visible if topic.name not in states]
    findings = [
        Finding("topics", "skipped", f"not looked at: the right {right} is missing on {_names(which)}")
        for right, which in (("Describe", hidden), ("DescribeConfigs", untold))
        if which
    ]
    if missing:
        findings.append(
            Finding("topics", "fault", f"missing: {', '.join(missing)}", "voipex-bridge topics apply")
        )
    there = [topic for topic in visible if topic.name in states]
    other = [topic for topic in there if states[topic.name].partitions != topic.partitions]
    if other:
        findings.append(
            Finding(
                "topics",
                "fault",
                "; ".join(
                    f"{topic.name} has {states[topic.name].partitions} partitions, not {topic.partitions}"
                    for topic in other
                ),
                f"set {variable_of('topic_partitions')} to what is there, or delete these topics and run voipex-bridge topics apply",
            )
        )
    agreed = [topic for topic in there if topic not in other]
    findings += _replicas(settings, [states[topic.name] for topic in there], seen)
    compared = [topic for topic in agreed if topic not in untold]
    for line in await check_topics(settings, compared) if compared else ():
        findings.append(Finding("topics", "warning", line, "voipex-bridge topics apply sets it as declared"))
    return findings or [
        Finding("topics", "ok", f"{len(topics)} are as declared, each partition has its leader and replicas")
    ]


def _replicas(
    settings: Settings, states: Sequence[TopicState], seen: dict[str, Standing]
) -> Iterator[Finding]:
    for state in states:
        standing = seen[state.name]
        least = int(state.config.get("min.insync.replicas", "1"))
        if standing.leaderless:
            partitions = ", ".join(map(str, standing.leaderless))
            yield Finding(
                "topics",
                "fault",
                f"{state.name}: no leader for partitions {partitions}",
                "bring the brokers that hold them back",
            )
        elif standing.fewest_in_sync < least:
            yield Finding(
                "topics",
                "fault",
                f"{state.name}: {standing.fewest_in_sync} replicas in sync, min.insync.replicas is {least}: it refuses writes",
                "bring the missing replicas back",
            )
    few = [state for state in states if state.replication < settings.topic_replication]
    if few:
        yield Finding(
            "topics",
            "warning",
            f"{_names(few)}: {min(state.replication for state in few)} replicas, "
            f"{variable_of('topic_replication')} is {settings.topic_replication}",
            f"kafka-reassign-partitions.sh gives them more; or set {variable_of('topic_replication')} to what is meant",
        )


def _names(topics: Sequence[Topic | TopicState]) -> str:
    return (
        f"{len(topics)} topics ({topics[0].name} …)" if len(topics) > 2 else ", ".join(t.name for t in topics)
    )


# ---------------------------------------------------------------- words


def _said(error: BaseException) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _size(count: int) -> str:
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"
