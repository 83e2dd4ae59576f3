"""The scores as tables: for the terminal and docs/accuracy.md, and as JSON."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from tools.accuracy.company import BUSY
from tools.accuracy.scores import CALLS, CUT_CALLS, CUT_DAYS, DAYS, OPEN_CALLS, STATES, Score, Scores
from tools.accuracy.situations import SITUATIONS

BEGIN: Final = "<!-- make accuracy writes from here -->"
END: Final = "<!-- to here -->"

_KINDS: Final = (CALLS, CUT_CALLS, OPEN_CALLS, STATES, DAYS, CUT_DAYS)


def markdown(scores: Mapping[str, Scores], quiet: Mapping[str, Scores]) -> str:
    """Draw the scores of each delivery. quiet: of days with fewer calls, of which only agents' days are drawn."""
    return "\n\n".join(
        [
            _table(
                ("delivery", "documents", "judged", "right in everything", "wrong", "wrong and `exact`"),
                _in_all(scores),
            ),
            "### Agents' days, by the calls of a day",
            _table(
                (
                    "delivery",
                    "each situation",
                    "calls of an agent's day",
                    "judged",
                    "right in everything",
                    "wrong",
                ),
                _by_calls({"once a day": quiet, f"{BUSY} times a day": scores}),
            ),
            "### By situation",
            _table(("situation", "calls", *scores, "open calls", "wrong and `exact`"), _by_situation(scores)),
            "### Which fields were wrong",
            _table(("documents", "field", *scores), _by_field(scores)),
        ]
    )


def to_json(
    scores: Mapping[str, Scores], quiet: Mapping[str, Scores], settings: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        **settings,
        "deliveries": {
            delivery: {
                "in_all": {kind: each.by_kind[kind].to_json() for kind in _KINDS if kind in each.by_kind},
                "situations": {
                    name: {kind: score.to_json() for kind, score in kinds.items()}
                    for name, kinds in sorted(each.by_situation.items())
                },
            }
            for delivery, each in scores.items()
        },
        "quiet_days": {
            delivery: {
                kind: each.by_kind[kind].to_json() for kind in (DAYS, CUT_DAYS) if kind in each.by_kind
            }
            for delivery, each in quiet.items()
        },
    }


def replace_tables(page: str, tables: str) -> str:
    """Return the page with these tables between its marks. Raises ValueError when it has none."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


def _in_all(scores: Mapping[str, Scores]) -> Iterable[Sequence[object]]:
    for delivery, each in scores.items():
        for kind in _KINDS:
            score = each.by_kind.get(kind)
            if score is not None:
                sure = score.sure if kind in (CALLS, CUT_CALLS, OPEN_CALLS) else ""
                yield delivery, kind, score.judged, _percent(score), score.wrong, sure


def _by_calls(companies: Mapping[str, Mapping[str, Scores]]) -> Iterable[Sequence[object]]:
    for often, scores in companies.items():
        for delivery, each in scores.items():
            score = each.by_kind.get(DAYS)
            if score is not None:
                calls = f"{score.calls / score.judged:.1f}"
                yield delivery, often, calls, score.judged, _percent(score), score.wrong


def _by_situation(scores: Mapping[str, Scores]) -> Iterable[Sequence[object]]:
    for name, situation in SITUATIONS.items():
        ended = [each.by_situation.get(name, {}).get(CALLS, Score()) for each in scores.values()]
        looked_at = Score()
        sure = 0
        for each in scores.values():
            for kind, score in each.by_situation.get(name, {}).items():
                sure += score.sure
                if kind == OPEN_CALLS:
                    looked_at.merge(score)
        if any(score.judged for score in ended):
            calls = sum(score.judged for score in ended)
            yield f"`{name}`: {situation.title}", calls, *map(_percent, ended), _percent(looked_at), sure


def _by_field(scores: Mapping[str, Scores]) -> Iterable[Sequence[object]]:
    for kind in _KINDS:
        fields = sorted(
            {field for each in scores.values() for field in each.by_kind.get(kind, Score()).fields}
        )
        for field in fields:
            yield (
                kind,
                f"`{field}`",
                *(each.by_kind.get(kind, Score()).fields[field] for each in scores.values()),
            )


def _percent(score: Score) -> str:
    if not score.judged:
        return "-"
    return "100 %" if not score.wrong else f"{min(score.right_percent, 99.99):.2f} %"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
