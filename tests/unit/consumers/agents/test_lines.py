"""A line is its agent's since the last record that named Login and Line together (consumers/agents/lines.py, ownership.py)."""

from random import Random
from typing import Any

import orjson
import pytest

from consumers.agents.memory import FOLD_VERSION
from tests.unit.consumers.agent_traffic import DAY, HOUR, MONDAY, PRAGUE, SECOND, Record, all_parts, event
from tests.unit.consumers.agents.company import Company, activity
from voipex.topics import AGENT_LINES, AGENT_STATUS

T = MONDAY
NOW = T + HOUR
Json = dict[str, Any]


def agent(at_us: int, name: str = "login", login: str | None = "novak", line: str | None = "201") -> Record:
    return event(at_us, name, "A", event_id=f"{name}{login}{at_us}", login=login, line=line)


def call(begin_us: int = T, login: str | None = None, line: str = "201", **more: Any) -> Record:
    more = {"ring": begin_us, "role": "caller", **more}
    return activity(more.pop("call_id", "1.1"), more.pop("number", 1), login=login, line=line, **more)


def states(*records: Record, as_of: int = NOW) -> dict[str, str]:
    documents = Company(Random(1)).run_in_order(list(records), as_of)
    return {key: fields["state"] for key, fields in documents.items()}


class TestClaims:
    def test_a_login_makes_the_line_the_agents(self) -> None:
        assert states(agent(T - HOUR), call()) == {"novak": "on_call"}

    @pytest.mark.parametrize("name", ["paused", "unpaused"])
    def test_so_does_any_agent_event(self, name: str) -> None:
        assert states(agent(T - HOUR, name), call()) == {"novak": "on_call"}

    def test_a_logout_alone_does_not(self) -> None:
        assert states(agent(T - HOUR, "logout"), call())["line:201"] == "on_call"

    def test_a_logout_does_not_end_it(self) -> None:
        assert states(agent(T - 2 * HOUR), agent(T - HOUR, "logout"), call()) == {"novak": "on_call"}

    def test_so_does_a_leg_that_names_both(self) -> None:
        earlier = call(T - HOUR, "novak", ended=T - HOUR + SECOND, result="busy", call_id="0.9")
        assert states(earlier, call())["novak"] == "on_call"

    def test_a_later_login_of_another_takes_it_over(self) -> None:
        assert states(agent(T - 2 * HOUR), agent(T - HOUR, login="bara"), call())["bara"] == "on_call"

    def test_what_comes_after_the_begin_does_not(self) -> None:
        assert states(agent(T - HOUR), call(), agent(T + 1, login="bara"))["novak"] == "on_call"

    def test_of_one_moment_the_leg(self) -> None:
        named = call(T, "bara", ended=T, result="busy", call_id="0.9")
        assert states(agent(T), named, call())["bara"] == "on_call"

    def test_of_legs_of_one_moment_the_greater_call(self) -> None:
        legs = (
            call(T, "bara", ended=T, result="busy", call_id="0.10"),
            call(T, "novak", call_id="0.9", ended=T),
        )
        assert states(*legs, call())["bara"] == "on_call"

    @pytest.mark.parametrize(("age_us", "owner"), [(90 * DAY, "novak"), (90 * DAY + 1, "line:201")])
    def test_none_is_older_than_90_days(self, age_us: int, owner: str) -> None:
        assert states(agent(T - age_us), call())[owner] == "on_call"

    def test_login_and_line_must_come_together(self) -> None:
        assert states(agent(T - HOUR, line=None), call())["line:201"] == "on_call"

    def test_a_leg_taken_back_takes_its_claim_along(self) -> None:
        named = call(T - HOUR, "bara", ended=T - HOUR, result="busy", call_id="0.9")
        removed = call(T - HOUR, "bara", ended=T - HOUR, call_id="0.9", revision=2, removed=True)
        assert states(agent(T - 2 * HOUR), named, call(), removed)["novak"] == "on_call"


class TestLegsOfTheLine:
    def test_a_late_claim_moves_them_and_deletes_the_lines_status(self) -> None:
        company = Company(Random(1))
        company.run_in_order([call()], NOW)
        assert set(company.documents(NOW)) == {"line:201"}
        company.run_in_order([agent(T - HOUR)], NOW)
        assert set(company.documents(NOW)) == {"novak"}

    def test_the_line_keeps_a_status_by_its_own_legs(self) -> None:
        own = call(T - 2 * HOUR, ended=T - 2 * HOUR + SECOND, result="busy", call_id="0.9")
        assert set(states(own, agent(T - HOUR), call())) == {"line:201", "novak"}

    def test_the_line_keeps_a_status_by_its_own_events(self) -> None:
        assert set(states(agent(T - HOUR, login=None), agent(T), call())) == {"line:201", "novak"}

    def test_they_count_in_the_totals_and_name_the_line(self) -> None:
        ended = call(answered=T + SECOND, ended=T + 61 * SECOND, result="completed", revision=2)
        documents = Company(Random(1)).run_in_order([agent(T - HOUR, line="201"), call(), ended], NOW)
        fields = documents["novak"]
        totals = fields["days"]["2026-03-02"]
        assert (totals["answered_out"], totals["talk_s"], fields["line"]) == (1, 60, "201")

    def test_a_login_named_at_the_hangup_counts_nothing_twice(self) -> None:
        times: Json = {"answered": T + SECOND, "ended": T + 61 * SECOND, "result": "completed", "revision": 2}
        moved = [call(line="201", agent="line:201", removed=True, **times), call(T, "novak", **times)]
        documents = Company(Random(1)).run([agent(T - HOUR), call(), *moved], NOW)
        assert documents["novak"]["days"]["2026-03-02"]["answered_out"] == 1
        assert set(documents) == {"novak"}


class TestRecordsToOneself:
    def test_forwarded_activity_says_that_the_agent_is_inferred(self) -> None:
        company = Company(Random(1))
        company.run_in_order([agent(T - HOUR), call()], NOW)
        records = [orjson.loads(value) for _, _, value, _ in company.written]
        assert [(each["type"], each["agent"]) for each in records] == [
            ("claim", "novak"),
            ("activity", "novak"),
        ]
        assert records[1]["inferred"] == ["agent"]

    def test_a_claim_is_written_once_for_a_leg(self) -> None:
        company = Company(Random(1))
        revisions = [call(T, "novak", revision=n, last=T + n) for n in range(1, 5)]
        company.run_in_order(revisions, NOW)
        assert len(company.written) == 1

    def test_a_tombstone_is_emitted_once_the_owner_is_known(self) -> None:
        state = PRAGUE.fold(PRAGUE.initial_state("voipex", "line:201"), call().kind, call().value)
        state, _ = PRAGUE.emit(state, T)
        company = Company(Random(1))
        company.run_in_order([agent(T - HOUR)], NOW)
        (_, key, claim, _) = company.written[0]
        state = PRAGUE.fold(state, AGENT_LINES, claim)
        state, produced = PRAGUE.emit(state, NOW)
        assert key == "line:201"
        assert [each.value for each in produced if each.kind == AGENT_STATUS] == [None]

    def test_a_claim_of_another_line_is_refused(self) -> None:
        company = Company(Random(1))
        company.run_in_order([agent(T)], NOW)
        with pytest.raises(ValueError, match="another agent"):
            PRAGUE.fold(PRAGUE.initial_state("voipex", "line:202"), AGENT_LINES, company.written[0][2])

    def test_a_state_of_an_older_version_claims_anew(self) -> None:
        state = PRAGUE.initial_state("voipex", "novak")
        for record in (agent(T - HOUR), call(T, "novak")):
            state, _ = PRAGUE.emit(PRAGUE.fold(state, record.kind, record.value), record.at_us)
        older = PRAGUE.decode(
            PRAGUE.encode(state).replace(b"[%d," % FOLD_VERSION, b"[0,", 1), all_parts(state)
        )
        _, produced = PRAGUE.emit(older, NOW)
        assert len([each for each in produced if each.kind == AGENT_LINES]) == 2
