"""docs/contract/example-doubts.md: one call of each kind of doubt."""

import inspect
import re

import pytest

from consumers.explain import evidence
from tools.docs.doubts import DOUBTS, Doubt, doubt_picture, page, view_of


@pytest.mark.parametrize("doubt", DOUBTS, ids=lambda doubt: doubt.title)
def test_each_call_shows_its_doubt(doubt: Doubt) -> None:
    call = view_of(doubt)
    rules = {each.rule for each in call.inferences}

    assert doubt.shows in rules or any(doubt.shows in each for each in call.doubts)


def test_every_rule_that_infers_has_a_call() -> None:
    shown = {each.rule for doubt in DOUBTS for each in view_of(doubt).inferences}

    assert {rule for rule, _ in evidence.WHY} | {"8", "5b"} == shown


def test_every_doubt_of_the_quality_has_a_call() -> None:
    source = inspect.getsource(evidence._doubts) + inspect.getsource(evidence._doubts_of_leg)
    sentences = set(re.findall(r'yield "(.*)"', source))
    shown = "\n".join(each for doubt in DOUBTS for each in view_of(doubt).doubts)

    assert len(sentences) == 13
    assert [each for each in sentences if each not in shown] == []


def test_the_page_and_its_picture_are_made_of_the_calls() -> None:
    assert page().count("\n## ") == len(DOUBTS)
    assert doubt_picture().startswith("<svg ")
