"""Rule 7: consultations."""

from tests.calls import CONSULT, FROM, LOCAL, OUT, TALK, answer, call, effects, hangup, legs, new, ring


class TestRule7:
    def test_a_leg_from_the_line_of_a_talking_leg_is_a_consult(self) -> None:
        made = call(*CONSULT)

        assert legs(made)[1] == ("202", "consult", None)
        assert (made.answered_by, made.status, made.from_all) == (("201",), "talking", (FROM,))

    def test_its_hangup_does_not_end_the_call(self) -> None:
        made = call(*CONSULT, hangup(20, "202", from_="201"))

        assert (made.status, effects(made)[-1]) == ("talking", "left")
        leg = made.legs[1]
        assert (leg.result, leg.consult_s, leg.ring_s, leg.talk_s) == ("completed", 8, 2, None)
        assert (made.legs[0].consult_s, made.legs[0].talk_s) == (8, None)
        assert (made.consult_s, made.from_all) == (8, (FROM,))

    def test_unanswered_it_ends_by_its_reason(self) -> None:
        made = call(*TALK, ring(10, "202", from_="201"), hangup(11, "202", "Subscriber absent"))

        assert legs(made)[1] == ("202", "consult", "unreachable")
        assert (made.legs[0].consult_s, made.legs[1].consult_s, made.consult_s) == (None, None, 0)

    def test_a_consult_without_ring_begins_with_its_answer(self) -> None:
        made = call(*TALK, answer(10, "202", from_="201"))

        assert legs(made)[1] == ("202", "consult", None)

    def test_from_the_own_line_is_no_consult(self) -> None:
        made = call(
            new(0, **OUT),
            ring(1, "20", from_="20", **OUT),
            answer(2, "20", **OUT),
            hangup(4, "20"),
            ring(5, "20", from_="20"),
        )

        assert made.legs[1].role == "caller"

    def test_from_a_line_that_only_rings_is_no_consult(self) -> None:
        made = call(new(0), ring(1, "201"), ring(2, "202", from_="201"))

        assert made.legs[1].role == "agent"

    def test_from_a_line_that_left_is_no_consult(self) -> None:
        made = call(*TALK, hangup(9, "201"), ring(10, "202", from_="201"))

        assert made.legs[1].role == "agent"

    def test_a_leg_without_from_is_no_consult(self) -> None:
        assert call(*TALK, ring(9, "202", from_=None)).legs[1].role == "agent"

    def test_from_the_line_of_a_consulted_colleague_is_no_consult(self) -> None:
        assert call(*CONSULT, ring(14, "203", from_="202")).legs[2].role == "agent"

    def test_a_local_caller_consults_nobody_before_an_answer(self) -> None:
        made = call(
            *(new(0, from_="20", **LOCAL), ring(1, "20", from_="20", **LOCAL)),
            *(answer(1.5, "20", from_="20", **LOCAL), ring(2, "202", from_="20", **LOCAL)),
        )

        assert [leg.role for leg in made.legs] == ["caller", "agent"]

    def test_after_another_party_has_answered_it_may(self) -> None:
        made = call(
            *(new(0, from_="20", **LOCAL), ring(1, "20", from_="20", **LOCAL)),
            *(ring(2, "202", from_="20", **LOCAL), answer(3, "202", **LOCAL), answer(3, "20", **LOCAL)),
            ring(30, "203", from_="20", **LOCAL),
        )

        assert [leg.role for leg in made.legs] == ["caller", "agent", "consult"]
