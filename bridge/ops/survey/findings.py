"""Counts -> what deserves a look, and the answer to each question that the documentation of the PBX leaves open (pure)."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bridge.ops.survey import sender as http_side
from bridge.ops.survey.observe import Observations
from bridge.ops.survey.sender import Sender
from voipex.events import EventType, ReasonClass

SUSPECT_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to look at. `count` of `total` what the sentence speaks of; `todo` is what to do about it."""

    code: str
    count: int
    total: int
    what: str
    todo: str

    def to_json(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "count": self.count,
            "of": self.total,
            "what": self.what,
            "todo": self.todo,
        }


def findings(seen: Observations, dead_letters: Counter[str], sender: Sender | None) -> list[Finding]:
    """List what deserves a look, the most frequent first."""
    found = [each for each in _findings(seen, dead_letters, sender) if each.count]
    return sorted(found, key=lambda each: (-each.count, each.code))


def _findings(seen: Observations, dead_letters: Counter[str], sender: Sender | None) -> Iterator[Finding]:
    if sender is not None:
        yield from (Finding(*each) for each in http_side.findings(sender))
    calls, agents, between = seen.calls, seen.agents, seen.between
    total = sum(each.count for each in seen.events.values())
    for name, count in seen.unknown_events.items():
        yield Finding(
            "unknown_event", count, total, f"events named {name}", "kept, but no rule uses them: tell us"
        )
    for key, count in unmapped_keys(seen).items():
        yield Finding(
            "unmapped_key",
            count,
            total,
            f"events with the key {key}",
            "a renamed key? `voipex-bridge credentials create --key` maps it; till then it is kept in `extra`",
        )
    for value, count in seen.unknown_directions.items():
        yield Finding("unknown_direction", count, total, f"events with the direction {value}", "tell us")
    for text, count in seen.reasons.get(ReasonClass.OTHER.value, {}).items():
        yield Finding("reason_without_class", count, total, f"hangups with the reason {text}", "tell us")
    repeated = calls.repeats["within 5 s"] + calls.repeats["after 5 s or more"]
    yield Finding(
        "repeated_event",
        repeated,
        total,
        "copies of an earlier event of the same call, equal in every field",
        "the PBX sends events twice, or tries again: see Repeats"
        + ("; a probe causes such copies, too" if sender is not None and sender.probed else ""),
    )
    yield Finding(
        "answered_before_ringing",
        calls.answered_before_ringing,
        calls.calls,
        "phones whose Answered came before their Ringing",
        "connections overtake each other; the documents cope, see Order",
    )
    yield Finding(
        "hangup_before_ringing",
        calls.hangup_before_ringing,
        calls.calls,
        "phones whose Hangup came before their Ringing",
        "connections overtake each other; the documents cope, see Order",
    )
    yield Finding(
        "new_call_late",
        calls.new_call_late,
        calls.calls,
        "calls whose NewCall is not the first event",
        "see Order",
    )
    yield Finding(
        "no_new_call",
        calls.without_new_call,
        calls.calls,
        "calls without a NewCall",
        "is NewCall switched on in the PBX? Without it the start is that of the first event",
    )
    yield Finding(
        "no_end",
        calls.without_end,
        calls.calls,
        "calls with neither a Hangup nor a CDR",
        "open calls, or lost events; are Hangup and CDR switched on?",
    )
    yield Finding(
        "no_cdr",
        calls.cdrs_per_call[0] if calls.cdrs_per_call[0] != calls.calls else 0,
        calls.calls,
        "calls without a CDR, while others have one",
        "open calls, or lost events",
    )
    yield Finding(
        "several_cdrs",
        sum(count for cdrs, count in calls.cdrs_per_call.items() if cdrs > 1),
        calls.calls,
        "calls with more than one CDR",
        "tell us: a CDR per leg would change how ends are read",
    )
    yield Finding(
        "event_after_cdr",
        sum(calls.after_cdr.values()),
        total,
        "events of a call that came after its CDR",
        "see Order",
    )
    yield Finding(
        "clock_ahead",
        calls.clock_ahead,
        calls.calls,
        "calls whose UniqueId begins over a minute after their first event",
        "compare the clocks of the PBX and of this host",
    )
    yield Finding(
        "id_of_another_form",
        calls.id_forms["another form"],
        calls.calls,
        "UniqueIds that are not `[systemname-]epoch.sequence`",
        "calls have no start on the PBX's clock then; tell us",
    )
    yield Finding(
        "id_per_leg",
        between.answers_other_id,
        between.answers_same_id + between.answers_other_id,
        "answers of a phone that rang under another UniqueId only",
        "ids are those of legs, not of calls: tell us before you rely on timelines",
    )
    yield Finding(
        "simultaneous_calls",
        between.simultaneous,
        calls.calls,
        "UniqueIds that begin within 2 s of another one with equal From and To",
        "one call may have several ids: tell us",
    )
    yield Finding(
        "answered_by_nobody",
        calls.answered_by_nobody,
        seen.events["Answered"].count if "Answered" in seen.events else 0,
        "Answered events without Line, Login and Email",
        "the PBX answers itself (queue, announcement, mailbox), or does not tell who answered",
    )
    yield Finding(
        "direction_changes",
        calls.direction_changes,
        calls.calls,
        "calls whose Direction changes",
        "the first one counts",
    )
    yield Finding(
        "no_direction",
        calls.directions["none"] if calls.directions["none"] != calls.calls else 0,
        calls.calls,
        "calls without a Direction, while others have one",
        "their outcome is read as that of an incoming call",
    )
    yield Finding(
        "login_changes",
        calls.login_changes,
        calls.calls,
        "calls in which one line has several Logins",
        "the last one counts",
    )
    yield Finding(
        "never_log_in",
        agents.never_log_in,
        agents.agents + agents.never_log_in,
        "Logins of calls that have no agent event",
        "static members of queues, or agent events that are switched off",
    )
    yield Finding(
        "logout_of_another_line",
        agents.logout_of_another_line,
        total,
        "AgentLogouts that name another Line than the login",
        "agents change phones without logging out first; the documents cope",
    )
    yield Finding(
        "paused_without_login",
        agents.paused_without_login,
        total,
        "AgentPaused events in a queue without an AgentLogin before",
        "logins from before the trace, or lost or swapped events",
    )
    yield Finding(
        "unpaused_without_pause",
        agents.unpaused_without_pause,
        total,
        "AgentUnPaused events without an AgentPaused before",
        "pauses from before the trace, or lost or swapped events",
    )
    for error_class, count in dead_letters.items():
        yield Finding(
            "dead_letter",
            count,
            total + count,
            f"requests or records stored as dead letters: {error_class}",
            "`voipex-bridge dead-letters list`",
        )


def unmapped_keys(seen: Observations) -> Counter[str]:
    """Count the events with each key outside the mapping; the contents of CDRs, which have keys of their own, are left out."""
    keys: Counter[str] = Counter()
    for name, counts in seen.events.items():
        if name != "CDR":
            for key, kinds in counts.unmapped.items():
                keys[key] += sum(kinds.values())
    return keys


# ---------------------------------------------------------------- open questions


@dataclass(frozen=True, slots=True)
class Answer:
    """A question that the documentation of the PBX leaves open, and what the trace says of it."""

    question: str
    answer: str
    """`not seen` when the trace cannot tell."""


_NOT_SEEN = "not seen"


def answers(seen: Observations, sender: Sender | None) -> list[Answer]:
    """Answer each open question by counts."""
    calls, between, agents = seen.calls, seen.between, seen.agents
    total = sum(each.count for each in seen.events.values())
    return [
        Answer("Does an event carry a time, an id or a sequence of its own?", _own_clock(seen)),
        *(Answer(f"Which fields does {name} have?", _fields(seen, name)) for name in _UNDOCUMENTED),
        Answer(
            "Is the UniqueId that of a call or of a leg?",
            _of(
                (
                    f"a call: {between.answers_same_id} phones answered under the id under which they rang",
                    between.answers_same_id,
                ),
                (
                    f"a leg: {between.answers_other_id} answered under another id only",
                    between.answers_other_id,
                ),
            ),
        ),
        Answer("Which form has the UniqueId?", _counts(calls.id_forms)),
        Answer(
            "Does a consultation have the id of its call?",
            _of(
                (
                    f"yes: {between.consult_same_id} phones rang for a talking line in its call",
                    between.consult_same_id,
                ),
                (f"no: {between.consult_other_id} under another id", between.consult_other_id),
            ),
        ),
        Answer("Which directions are reported (calls)?", _counts(calls.directions)),
        Answer(
            "On outgoing calls, is Line the caller's extension?",
            _of((f"in {calls.outgoing_line_is_from} of {calls.outgoing} From equals Line", calls.outgoing)),
        ),
        Answer(
            "On outgoing calls, which event first tells the Login?", _counts(calls.outgoing_login_first_at)
        ),
        Answer(
            "Does From change within a call?",
            _of((f"in {calls.from_changes} of {calls.calls} calls", calls.calls)),
        ),
        Answer(
            "Do events of calls name the Queue?",
            _of((f"in {calls.with_queue} of {calls.calls} calls", calls.calls)),
        ),
        Answer(
            "Does the PBX report its own answers (queue, announcement, mailbox)?",
            _of(
                (
                    f"{calls.answered_by_nobody} Answered events name nobody, {calls.answered_by_nobody_first} of them before anything rang",
                    calls.answered_by_nobody,
                )
            ),
        ),
        *(Answer(question, answer) for question, answer in http_side.answers(sender)),
        Answer("Are events sent twice?", _of((_counts(calls.repeats), sum(calls.repeats.values())))),
        Answer(
            "Do events overtake each other?",
            f"{calls.answered_before_ringing + calls.hangup_before_ringing + calls.new_call_late} times in {total} events"
            if total
            else _NOT_SEEN,
        ),
        Answer(
            "How many CDRs has a call?",
            _counts(
                Counter(
                    {("1 CDR" if n == 1 else f"{n} CDRs") + ":": c for n, c in calls.cdrs_per_call.items()}
                )
            ),
        ),
        Answer("When does the CDR come?", _spread(calls.cdr_delay.to_json(), "after the last Hangup")),
        Answer(
            "Which event follows an AttendedTransfer?",
            _counts(calls.after_transfer),
        ),
        Answer(
            "Do all members of queues log in?",
            _of(
                (
                    f"{agents.agents} agents have agent events, {agents.never_log_in} Logins of calls have none",
                    agents.agents + agents.never_log_in,
                )
            ),
        ),
        Answer("Which agent events have no Queue?", _counts(agents.blank_queue)),
    ]


_UNDOCUMENTED = ("NewCall", "Answered", "AttendedTransfer", "CancelAttendedTransfer", "CDR")
_OWN = ("time", "seconds or milliseconds since 1970", "UUID")


def _own_clock(seen: Observations) -> str:
    kinds: Counter[str] = Counter()
    for counts in seen.events.values():
        for key, values in counts.unmapped.items():
            for kind in _OWN:
                if values[kind]:
                    kinds[f"{key} ({kind})"] += values[kind]
    if kinds:
        return "perhaps: " + _counts(kinds)
    return "no" if seen.events else _NOT_SEEN


def _fields(seen: Observations, name: str) -> str:
    counts = seen.events.get(name)
    if counts is None:
        return _NOT_SEEN
    present = Counter(counts.present)
    present.update({key: sum(kinds.values()) for key, kinds in counts.unmapped.items()})
    return f"of {counts.count}: " + _counts(present)


def _of(*counted: tuple[str, int]) -> str:
    return "; ".join(text for text, count in counted if count) or _NOT_SEEN


def _counts(counter: Counter[Any]) -> str:
    """`ringing 12, hangup 3`, the most frequent first."""
    return ", ".join(f"{_name(key)} {count}" for key, count in counter.most_common()) or _NOT_SEEN


def _name(key: Any) -> str:
    return key.value if isinstance(key, EventType) else str(key)


def _spread(spread: dict[str, Any] | None, of_what: str) -> str:
    if spread is None:
        return _NOT_SEEN
    return f"median {spread['median']} s, 95 % within {spread['p95']} s {of_what} (of {spread['count']})"
