"""`voipex-bridge dead-letters`: list, show and replay dead letters."""

import asyncio
import re
import sys
from typing import Annotated, Any, Final

import typer

from bridge import settings
from bridge.auth.store import CredentialStore
from bridge.cli.output import Json, escape_terminal, fail, load_settings, now_us, print_json
from bridge.ops import dead_letters, tail
from bridge.ops.dead_letters import DeadLetterFilter, Position, ReplayResult
from voipex.timestamps import parse_rfc3339

dead_letters_app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Inspect the webhooks and records that could not be processed, and publish them again once the cause is fixed.",
)

PbxOption = Annotated[str | None, typer.Option("--pbx", help="Only this PBX. Default: all of VOIPEX_PBXS.")]
SinceOption = Annotated[
    str | None, typer.Option(help="Received at or after this time: 2026-03-02T08:00:00Z, or 30m, 2h, 7d ago.")
]
UntilOption = Annotated[str | None, typer.Option(help="Received before this time; same forms as --since.")]
ClassOption = Annotated[
    str | None, typer.Option("--class", help="Only this error class, such as InvalidEvent.")
]
StageOption = Annotated[str | None, typer.Option(help="Only this stage: ingress, timelines or agents.")]

_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_SPAN_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_POSITION: Final = re.compile(r"(\d{1,9}):(\d{1,18})")


@dead_letters_app.command("list")
def dead_letters_list(
    pbx: PbxOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    error_class: ClassOption = None,
    stage: StageOption = None,
    as_json: Json = False,
) -> None:
    """
    Print one line per dead letter, oldest first, without its body.

    Columns: position, time of receipt, error class, stage, size, credential, error message.
    Example: `voipex-bridge dead-letters list --since 2h`
    """
    loaded = load_settings()
    pbxs = _select_pbxs(loaded, pbx)
    selection = _filter(since, until, error_class, stage)
    found = asyncio.run(dead_letters.list_dead_letters(loaded, pbxs, selection))
    if as_json:
        print_json([each.summary() for each in found])
        return
    credentials = [escape_terminal(each.header("bridge-credential") or "") for each in found]
    credential_width = max(map(len, credentials), default=0)
    pbx_width = max(map(len, pbxs))
    for each, credential in zip(found, credentials, strict=True):
        prefix = f"{each.pbx:<{pbx_width}}  " if len(pbxs) > 1 else ""
        typer.echo(
            f"{prefix}{each.position!s:>9}  {each.received_at}  {escape_terminal(each.error_class):<13}  "
            f"{escape_terminal(each.stage):<9}  {each.size_bytes:>6} B  {credential:<{credential_width}}  "
            f"{escape_terminal(each.message)}"
        )
    typer.echo(f"{len(found)} dead letter{'s' * (len(found) != 1)}", err=True)


@dead_letters_app.command("show")
def dead_letters_show(
    position: Annotated[str, typer.Argument(metavar="PARTITION:OFFSET", help="As printed by `list`.")],
    pbx: PbxOption = None,
    raw: Annotated[bool, typer.Option("--raw", help="Print only the body, byte for byte.")] = False,
    as_json: Json = False,
) -> None:
    """
    Print the headers and the body of one dead letter.

    The body may contain phone numbers, names and e-mail addresses; no other command prints it.
    """
    loaded = load_settings()
    pbxs = _select_pbxs(loaded, pbx)
    _require_one_pbx(pbxs)
    dead_letter = asyncio.run(dead_letters.get_dead_letter(loaded, pbxs[0], _position(position)))
    body = dead_letter.body or b""
    if raw:
        sys.stdout.buffer.write(body)
    elif as_json:
        print_json(
            {
                **dead_letter.summary(),
                "key": tail.text(dead_letter.key),
                "body": tail.text(dead_letter.body),
                "headers": {name: tail.text(value) for name, value in dead_letter.headers},
            }
        )
    else:
        for name, value in dead_letter.headers:
            typer.echo(f"{name}: {escape_terminal((value or b'').decode(errors='replace'))}")
        key = dead_letter.key
        typer.echo(f"key: {'(none)' if key is None else escape_terminal(key.decode(errors='replace'))}")
        typer.echo("\n" + escape_terminal(body.decode(errors="backslashreplace"), keep="\n\t"))


@dead_letters_app.command("replay")
def dead_letters_replay(
    position: Annotated[
        str | None,
        typer.Argument(
            metavar="PARTITION:OFFSET", help="Only this one; with several PBXs, name one by --pbx."
        ),
    ] = None,
    pbx: PbxOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    error_class: ClassOption = None,
    stage: StageOption = None,
    credential: Annotated[
        str | None,
        typer.Option(help="Credential whose key names read webhooks of credentials that no longer exist."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report the outcome, publish nothing.")] = False,
    as_json: Json = False,
) -> None:
    """
    Publish dead letters again: webhooks with the current key names of their credential, records unchanged.

    It is safe to replay a dead letter twice. All stay in their topic. Exit 1: some were not replayed.
    Example: `voipex-bridge dead-letters replay --class InvalidEvent --dry-run`
    """
    loaded = load_settings()
    pbxs = _select_pbxs(loaded, pbx)
    selection = _filter(since, until, error_class, stage, position)
    if position is not None:
        _require_one_pbx(pbxs)
    credentials = CredentialStore(loaded.credentials_file, loaded.pbxs).credentials
    fallback = None if credential is None else credentials.principal(credential)
    if credential is not None and fallback is None:
        fail(f"--credential {credential!r} is not in {loaded.credentials_file}", 2)

    rows: list[dict[str, Any]] = []

    def report(result: ReplayResult) -> None:
        if as_json:
            rows.append(
                {
                    **result.dead_letter.summary(),
                    "result": result.outcome,
                    "topic": result.topic,
                    "why": result.reason,
                }
            )
        elif result.reason is not None or position is not None or dry_run:
            detail = result.reason or f"{'would go' if dry_run else 'published'} to {result.topic}"
            dead_letter = result.dead_letter
            typer.echo(f"{result.outcome:<9} {dead_letter.pbx} {dead_letter.position!s:>9}  {detail}")

    counts = asyncio.run(
        dead_letters.replay(
            loaded,
            pbxs,
            selection,
            credentials.principal,
            loaded.partitions_of,
            report,
            fallback=fallback,
            dry_run=dry_run,
        )
    )
    if as_json:
        print_json({"dry_run": dry_run, **counts, "dead_letters": rows})
    else:
        labels = {"unusable": "still unusable", "refused": "refused by Kafka"}
        if dry_run:
            labels["replayed"] = "would be replayed"
        typer.echo(", ".join(f"{count} {labels.get(outcome, outcome)}" for outcome, count in counts.items()))
    if counts["replayed"] != sum(counts.values()):
        sys.exit(1)


# ---------------------------------------------------------------- options


def parse_position(text: str) -> Position:
    """`3:17` -> partition 3, offset 17. Raises ValueError."""
    match = _POSITION.fullmatch(text)
    if match is None:
        raise ValueError("a position is PARTITION:OFFSET, as `dead-letters list` prints it")
    return Position(int(match[1]), int(match[2]))


def parse_time_us(text: str, now_us: int) -> int:
    """
    Microseconds since 1970 of `2026-03-02T08:00:00Z` (UTC if it has no offset), or of `90s`, `30m`, `2h`, `7d` before now.

    Raises:
        ValueError: it is neither.
    """
    span = _SPAN.fullmatch(text)
    if span is not None:
        return now_us - round(float(span[1]) * _SPAN_S[span[2]] * 1_000_000)
    for candidate in (text, f"{text}Z", f"{text}T00:00:00Z"):
        try:
            return parse_rfc3339(candidate)
        except ValueError:
            continue
    raise ValueError("a time is 2026-03-02T08:00:00Z, or 90s, 30m, 2h, 7d ago")


def _select_pbxs(loaded: settings.Settings, pbx: str | None) -> tuple[str, ...]:
    if pbx is not None and pbx not in loaded.pbxs:
        fail(f"--pbx {pbx!r} is not in VOIPEX_PBXS ({', '.join(loaded.pbxs)})", 2)
    return loaded.pbxs if pbx is None else (pbx,)


def _require_one_pbx(pbxs: tuple[str, ...]) -> None:
    if len(pbxs) > 1:
        fail(f"--pbx is needed: one of {', '.join(pbxs)}", 2)


def _filter(
    since: str | None,
    until: str | None,
    error_class: str | None,
    stage: str | None,
    position: str | None = None,
) -> DeadLetterFilter:
    return DeadLetterFilter(
        _time_us("--since", since),
        _time_us("--until", until),
        error_class,
        stage,
        None if position is None else _position(position),
    )


def _time_us(option: str, text: str | None) -> int | None:
    try:
        return None if text is None else parse_time_us(text, now_us())
    except ValueError as error:
        fail(f"{option} {text!r}: {error}", 2)


def _position(text: str) -> Position:
    try:
        return parse_position(text)
    except ValueError as error:
        fail(f"{text!r}: {error}", 2)
