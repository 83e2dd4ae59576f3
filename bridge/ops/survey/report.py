"""The survey as JSON and as Markdown (pure)."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bridge.ops.survey.findings import answers, findings
from bridge.ops.survey.observe import FIELDS, Observations
from bridge.ops.survey.sender import Sender, proxied, rows


@dataclass(frozen=True, slots=True)
class Documents:
    """Counts over what the services make of the trace."""

    calls: int = 0
    quality: Counter[str] = field(default_factory=Counter)
    outcome: Counter[str] = field(default_factory=Counter)
    anomalies: Counter[str] = field(default_factory=Counter)
    inferred: Counter[str] = field(default_factory=Counter)
    """Calls with such an inferred value in one of their legs."""
    presence: Counter[str] = field(default_factory=Counter)


def count_documents(timelines: Sequence[Mapping[str, Any]], agents: Sequence[Mapping[str, Any]]) -> Documents:
    """Count over CallTimelines and AgentStatuses."""
    documents = Documents(calls=len(timelines))
    for timeline in timelines:
        documents.quality[timeline["quality"]] += 1
        documents.outcome[timeline["outcome"] or "open"] += 1
        documents.anomalies.update(timeline["anomalies"])
        documents.inferred.update({name for leg in timeline["legs"] for name in leg["inferred"]})
    documents.presence.update(status["presence"] for status in agents)
    return documents


def to_json(
    seen: Observations, documents: Documents, dead_letters: Counter[str], sender: Sender | None
) -> dict[str, Any]:
    """Return everything counted; keys are stable, values are numbers and names that are nobody's."""
    calls = {
        name: value.to_json() if hasattr(value, "to_json") else _plain(value)
        for name, value in ((name, getattr(seen.calls, name)) for name in seen.calls.__slots__)
    }
    return {
        "period": {"first": seen.first_received_at, "last": seen.last_received_at},
        "findings": [each.to_json() for each in findings(seen, dead_letters, sender)],
        "answers": [asdict(each) for each in answers(seen, sender)],
        "events": {
            name: {
                "count": counts.count,
                "fields": {
                    each: {"count": counts.present[each], "kinds": _plain(counts.kinds[each])}
                    for each in ("unique_id", *FIELDS)
                    if counts.present[each]
                },
                "unmapped": {key: _plain(kinds) for key, kinds in sorted(counts.unmapped.items())},
            }
            for name, counts in sorted(seen.events.items())
        },
        "reasons": {name: _plain(texts) for name, texts in sorted(seen.reasons.items())},
        "calls": calls,
        "between_calls": asdict(seen.between),
        "agents": {name: _plain(getattr(seen.agents, name)) for name in seen.agents.__slots__},
        "documents": {
            name: _plain(getattr(documents, name))
            for name in ("calls", "quality", "outcome", "anomalies", "inferred", "presence")
        },
        "dead_letters": _plain(dead_letters),
        "sender": None if sender is None else sender.model_dump(),
    }


def _plain(value: Any) -> Any:
    """A Counter as an object, the most frequent first, with text as keys."""
    if isinstance(value, Counter):
        return {
            str(getattr(key, "value", key)): count
            for key, count in sorted(value.items(), key=lambda item: (-item[1], str(item[0])))
        }
    return value


# ---------------------------------------------------------------- Markdown


def to_markdown(survey: Mapping[str, Any]) -> str:
    """Write `to_json`'s object for a person."""
    return "\n".join(_lines(survey)) + "\n"


def _lines(survey: Mapping[str, Any]) -> Iterator[str]:
    period = survey["period"]
    total = sum(each["count"] for each in survey["events"].values())
    yield "# What this PBX sends"
    yield ""
    if not total:
        yield "There are no events to look at."
        yield ""
        yield from _sender(survey["sender"])
        return
    yield (
        f"Events: {total}, calls: {survey['calls']['calls']}, agents: {survey['agents']['agents']}. Received from "
        f"{period['first']} to {period['last']}. There is no number, e-mail, login, queue or pause in this report: only kinds and counts."
    )
    yield ""
    yield "## What deserves a look"
    yield ""
    if survey["findings"]:
        yield from _table(
            ("count", "of", "what", "what to do"),
            ((each["count"], each["of"], each["what"], each["todo"]) for each in survey["findings"]),
        )
    else:
        yield "Nothing."
    yield ""
    yield "## Answers to what the documentation leaves open"
    yield ""
    yield from _table(
        ("question", "seen"), ((each["question"], each["answer"]) for each in survey["answers"])
    )
    yield ""
    yield "## Events and their fields"
    yield ""
    yield from _field_table(survey["events"])
    yield ""
    unmapped = [
        (name, key, sum(kinds.values()), _joined(kinds))
        for name, each in survey["events"].items()
        for key, kinds in each["unmapped"].items()
    ]
    if unmapped:
        yield "Keys outside the mapping; each is kept in `extra`:"
        yield ""
        yield from _table(("event", "key", "count", "kinds of values"), unmapped)
        yield ""
    yield "## Kinds of values"
    yield ""
    yield from _table(
        ("field", "kinds of values"), ((name, _joined(kinds)) for name, kinds in _kinds(survey["events"]))
    )
    yield ""
    yield "## Reasons"
    yield ""
    yield from _table(
        ("class", "texts"), ((name, _joined(texts)) for name, texts in survey["reasons"].items())
    )
    yield ""
    yield from _repeats(survey["calls"])
    yield from _documents(survey["documents"])
    yield from _sender(survey["sender"])


def _repeats(calls: Mapping[str, Any]) -> Iterator[str]:
    yield "## Repeats and order"
    yield ""
    rows: list[tuple[Any, ...]] = [
        ("events equal to an earlier one of the same call", _joined(calls["repeats"])),
        ("their types, without phones that ring again", _joined(calls["repeated_types"])),
        ("Answered before its Ringing", calls["answered_before_ringing"]),
        ("Hangup before its Ringing", calls["hangup_before_ringing"]),
        ("NewCall after another event", calls["new_call_late"]),
        ("after the CDR", _joined(calls["after_cdr"])),
    ]
    for name, what in (
        ("repeat_gap", "s between equal events"),
        ("start_delay", "s from the epoch in the UniqueId to the receipt of NewCall"),
        ("cdr_delay", "s from the last Hangup to the CDR"),
    ):
        spread = calls[name]
        if spread is not None:
            rows.append(
                (
                    what,
                    f"median {spread['median']}, 95 % at most {spread['p95']}, from {spread['min']} to {spread['max']}",
                )
            )
    yield from _table(("what", "seen"), rows)
    yield ""


def _documents(documents: Mapping[str, Any]) -> Iterator[str]:
    yield "## What the documents make of it"
    yield ""
    yield from _table(
        ("what", "seen"),
        (
            (name, _joined(documents[key]))
            for name, key in (
                ("calls by quality", "quality"),
                ("calls by outcome", "outcome"),
                ("anomalies", "anomalies"),
                ("inferred in legs", "inferred"),
                ("agents by presence", "presence"),
            )
        ),
    )
    yield ""


def _sender(counted: Mapping[str, Any] | None) -> Iterator[str]:
    yield "## How the PBX sends"
    yield ""
    if counted is None:
        yield "Unknown: no bridge was asked. `--bridge http://HOST:8081` names the management port of one."
        return
    sender = Sender.model_validate(counted)
    if through := proxied(sender):
        yield (
            f"{through} of {sender.connections} connections came through a proxy: HTTP version, TLS, connections and time-outs are those of "
            "the proxy, and it may repeat requests by itself."
        )
        yield ""
    if sender.bridges > 1:
        yield "A repeat that reached another bridge than the refused request is not recognized; see Repeats and order."
        yield ""
    yield from _table(("what", "seen"), rows(sender))


def _field_table(events: Mapping[str, Any]) -> Iterator[str]:
    names = [
        each for each in ("unique_id", *FIELDS) if any(each in event["fields"] for event in events.values())
    ]
    yield from _table(
        ("event", "count", *names),
        (
            (
                name,
                event["count"],
                *(_share(event["fields"].get(each, {"count": 0})["count"], event["count"]) for each in names),
            )
            for name, event in events.items()
        ),
    )


def _kinds(events: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, int]]]:
    for name in ("unique_id", *FIELDS):
        kinds: Counter[str] = Counter()
        for event in events.values():
            kinds.update(event["fields"].get(name, {"kinds": {}})["kinds"])
        if kinds:
            yield name, dict(kinds.most_common())


def _share(count: int, total: int) -> str:
    """`100 %` and `0 %` only when it is all or none."""
    if count in (0, total):
        return "" if count == 0 else "100 %"
    return f"{min(max(100 * count / total, 0.1), 99.9):.1f} %"


def _joined(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def _table(head: Sequence[str], rows: Any) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
