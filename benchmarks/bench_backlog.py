"""
A long outage: events pile up while Kafka is away, the bridge is killed and started again, Kafka comes back, and the backlog drains while
events keep coming. Also the memory of the bridge, after 100 k and after all events. Needs `wrk`.
"""

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import described
from benchmarks.rig import (
    Bridge,
    kafka,
    prepare,
    require_wrk,
    rss_mib,
    scrape,
    serving_bridge,
    start_kafka,
    wrk,
)
from sandbox.broker import LocalKafka


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the JSON only")
    parser.add_argument("--events", type=int, default=1_200_000)
    options = parser.parse_args()
    require_wrk()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=".") as name, kafka() as broker:
        bridge = prepare(Path(name), broker, VOIPEX_SPOOL_LIMIT_BYTES=str(4 << 30), VOIPEX_DRAIN_S="0")
        result = {"what": "a long outage", **described(), **measure(bridge, broker, options.events)}
    print(json.dumps(result, indent=None if options.json else 1))


def measure(bridge: Bridge, broker: LocalKafka, events: int) -> dict[str, Any]:
    broker.stop()
    with serving_bridge(bridge) as process:
        fill(bridge, 100_000)
        after_100k = rss_mib(process.pid)
        fill(bridge, events)
        figures = scrape(bridge)
        after_all = rss_mib(process.pid)
    spooled = figures["voipex_bridge_spool_bytes"]
    started = time.monotonic()
    with serving_bridge(bridge) as process:
        ready_s = time.monotonic() - started
        waiting = waits(bridge)
        start_kafka(broker)
        stop = threading.Event()
        trickle = threading.Thread(target=keep_coming, args=(bridge, stop))
        trickle.start()
        begun = time.monotonic()
        before = scrape(bridge)["voipex_bridge_spool_acknowledged_total"]
        while waits(bridge) > 2000:
            time.sleep(0.25)
        took_s = time.monotonic() - begun
        drained = scrape(bridge)["voipex_bridge_spool_acknowledged_total"] - before
        stop.set()
        trickle.join()
        after_drain = rss_mib(process.pid)
    return {
        "events_spooled": round(waiting),
        "spool_mib": round(spooled / 2**20),
        "ready_after_restart_s": round(ready_s, 2),
        "drained_per_s": round(drained / took_s),
        "rss_after_100k_mib": after_100k,
        "rss_after_all_mib": after_all,
        "rss_after_drain_mib": after_drain,
    }


def fill(bridge: Bridge, events: int) -> None:
    while (missing := events - scrape(bridge)["voipex_bridge_spool_appended_total"]) > 0:
        wrk(bridge.port, bridge.token, 64, max(1, round(missing / 10_000)))


def waits(bridge: Bridge) -> float:
    figures = scrape(bridge)
    return figures["voipex_bridge_spool_appended_total"] - figures["voipex_bridge_spool_acknowledged_total"]


def keep_coming(bridge: Bridge, stop: threading.Event) -> None:
    """Post about 1,000 events/s: one connection, each request after the response to the one before."""
    while not stop.is_set():
        wrk(bridge.port, bridge.token, 1, 1)


if __name__ == "__main__":
    main()
