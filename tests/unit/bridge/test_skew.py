"""This host's clock compared with those of the PBXs, from the ids of their calls."""

from bridge.publisher.skew import ClockSkew
from voipex.records import Record


def event(unique_id: str, received_at_s: float, pbx: str = "voipex", kind: str = "ringing") -> Record:
    headers = (("ce_type", f"voipex.call.{kind}.v1".encode()),)
    return Record(f"{pbx}.call.events.v1", 0, unique_id.encode(), b"{}", headers, int(received_at_s * 1000))


def test_the_least_delay_from_a_start_to_its_event_is_the_skew() -> None:
    skew = ClockSkew(monotonic=lambda: 0.0)
    for record in (
        event("1000.1", 4603.0),
        event("pbx1-1000.2", 4600.5),
        event("2000.3", 1000.0, pbx="brno", kind="new_call"),
        event("1000.4", 1000.0, kind="hangup"),  # of a call that may have begun long ago
        event("no epoch", 1000.0),
        Record("voipex.agent.events.v1", 0, b"janecek", b"{}", (("ce_type", b"voipex.agent.login.v1"),), 0),
        Record("voipex.dead-letters.v1", 0, None, b"{}", (), 0),
    ):
        skew.observe(record)

    assert skew.by_pbx_s() == {"voipex": 3600.5, "brno": -1000.0}


def test_the_skew_is_that_of_the_last_minutes() -> None:
    now_s = 0.0
    skew = ClockSkew(monotonic=lambda: now_s)
    skew.observe(event("1000.1", 1001.0))
    now_s = 301.0
    skew.observe(event("1000.2", 4600.0))
    assert skew.by_pbx_s() == {"voipex": 1.0}

    now_s = 602.0
    assert skew.by_pbx_s() == {"voipex": 3600.0}
    now_s = 1300.0
    assert skew.by_pbx_s() == {}
