"""Laws of lines of one's own: several agents and lines, each a key of its own, as the tasks of several partitions hold them."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.consumers.agent_traffic import DAY, HOUR
from tests.unit.consumers.agents.company import Company, company_reference, traffic

SEEDS = st.integers(0, 1 << 32)
AFTER = st.sampled_from([0, HOUR, DAY])


@given(SEEDS, SEEDS, AFTER)
@settings(deadline=None)
def test_any_order_across_keys(seed: int, order: int, after_us: int) -> None:
    """Events, activity, claims and forwarded activity in any order, some twice: as worked out from all of them at once."""
    records = traffic(Random(seed))
    as_of_us = max(record.at_us for record in records) + after_us

    assert Company(Random(order)).run(records, as_of_us) == company_reference(records, as_of_us)


@given(SEEDS, SEEDS, AFTER)
@settings(deadline=None)
def test_any_batches_and_restarts_across_keys(seed: int, order: int, after_us: int) -> None:
    """A task folds a batch before it emits, so a claim and what it takes over may come at once."""
    records = traffic(Random(seed))
    as_of_us = max(record.at_us for record in records) + after_us

    assert Company(Random(order)).run_in_batches(records, as_of_us) == company_reference(records, as_of_us)


@given(SEEDS, SEEDS, AFTER)
@settings(deadline=None)
def test_order_of_receipt_across_keys(seed: int, order: int, after_us: int) -> None:
    records = traffic(Random(seed))
    as_of_us = max(record.at_us for record in records) + after_us

    assert Company(Random(order)).run_in_order(records, as_of_us) == company_reference(records, as_of_us)


@given(SEEDS, SEEDS)
@settings(deadline=None)
def test_repeating_all_own_records_changes_nothing(seed: int, order: int) -> None:
    """What the service wrote to itself, read once more in any order."""
    records = traffic(Random(seed))
    as_of_us = max(record.at_us for record in records)
    company = Company(Random(order))
    documents = company.run(records, as_of_us)
    again = company.written.copy()
    company.random.shuffle(again)
    for record in again:
        company.fold(record, as_of_us)
        assert company.on_the_way == []

    assert company.documents(as_of_us) == documents
