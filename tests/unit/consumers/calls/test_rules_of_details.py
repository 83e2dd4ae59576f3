"""Details of the rules that `make mutants` found without a test."""

from tests.calls import BUSY, ELSEWHERE, answer, at, call, hangup, legs, new, only, ring


class TestRule1:
    def test_a_second_device_fills_in_details(self) -> None:
        made = call(new(0), ring(1, "299"), ring(2, "299", login="novak", queue="NOC"))

        assert (only(made).login, only(made).queue) == ("novak", "NOC")

    def test_an_anonymous_answer_fills_in_details(self) -> None:
        made = call(new(0), ring(1, "201"), answer(5, None, queue="NOC"))

        assert (only(made).queue, only(made).answered_at) == ("NOC", at(5))


class TestRule5:
    def test_an_anonymous_answer_is_withdrawn_from_its_own_leg(self) -> None:
        made = call(
            new(0),
            ring(1, "201"),
            ring(1.1, "202"),
            answer(5, None),
            hangup(6, "202", ELSEWHERE),
            hangup(9, "201", BUSY),
        )

        assert legs(made) == [("201", "agent", "busy"), ("202", "agent", "answered_elsewhere")]
        assert ["answered_at" in leg.inferred for leg in made.legs] == [True, False]
