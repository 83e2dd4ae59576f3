"""The board in a real browser: what it draws is true, says how fresh and how sure it is, and everybody can use it."""

import random
import re
import time
from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from consumers.explain.replay import explain
from consumers.explain.trace import read_trace
from tests.board_fixtures import START_US, Json, agent, missed, simulated, simulated_events, timeline
from tests.browser.conftest import WITHIN_MS, LiveBoard, Visitor
from tests.unit.consumers.traces import lines_of, scenario, scenario_names
from voipex.timestamps import format_rfc3339, parse_rfc3339

VIEWS = ("#/agents", "#/queues", "#/calls", "#/missed", "#/wall")


def until(holds: Callable[[], bool], what: str, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def wait(page: Page, holds: str) -> None:
    """Playwright's own wait_for_function evaluates text in the page, which the pages' policy forbids."""
    until(lambda: bool(page.evaluate(holds)), holds)


def shown(page: Page, selector: str, name: str) -> dict[str, tuple[str, str]]:
    """State and revision of every tile or row, by name."""
    found: list[list[str]] = page.evaluate(
        "([selector, name]) => [...document.querySelectorAll(selector)].map(each =>"
        " [each.dataset[name], each.dataset.state ?? each.dataset.status, each.dataset.revision])",
        [selector, name],
    )
    return {key: (state, revision) for key, state, revision in found}


# ---------------------------------------------------------------- true


def test_tiles_show_the_last_document_after_chaos(live: LiveBoard, visitor: Visitor) -> None:
    chance = random.Random(5)
    names = [f"agent{number:02d}" for number in range(40)]
    last: dict[str, Json] = {}

    def change(name: str) -> None:
        state = chance.choice(["available", "on_call", "ringing", "paused", "offline", "consulting"])
        revision = last[name]["revision"] + 1 if name in last else 1
        last[name] = agent(name, state=state, revision=revision)
        live.put_agent(last[name])

    for name in names:
        change(name)
    page = visitor.open("#/agents")
    for _ in range(20):
        for _ in range(15):
            change(chance.choice(names))
        live.proxy.refusing = chance.random() < 0.3
        live.proxy.cut()
        time.sleep(chance.random() / 2)
        live.proxy.refusing = False
    wanted = {f"voipex/{name}": (each["state"], str(each["revision"])) for name, each in last.items()}
    until(lambda: shown(page, ".tile", "agent") == wanted, "the tiles differ from the documents")


def test_calls_show_the_last_document_after_chaos(live: LiveBoard, visitor: Visitor) -> None:
    page = visitor.open("#/calls")
    documents = simulated(500, start_us=live.now_us() - 600_000_000)
    timelines = list(documents.timelines)
    for number, each in enumerate(timelines):
        live.put_call(each)
        if number % 15 == 0:
            live.proxy.cut()
    wait(page, "document.documentElement.dataset.feed === 'live'")
    wanted = {f"voipex/{each['call_id']}": (each["status"], str(each["revision"])) for each in timelines}

    def equal() -> bool:
        page.keyboard.press("n")
        return shown(page, "tr[data-call]", "call") == wanted

    until(equal, "the rows differ from the documents")


# ---------------------------------------------------------------- fresh


def test_a_stalled_stream_turns_grey_and_comes_back(live: LiveBoard, visitor: Visitor) -> None:
    live.put_agent(agent(since=format_rfc3339(live.now_us())))
    page = visitor.open("#/agents")
    wait(page, "document.documentElement.dataset.feed === 'live'")
    live.proxy.stalled = True
    page.wait_for_selector("[data-banner=stale]")
    stood = page.inner_text(".tile .timer")
    page.wait_for_timeout(2500)
    assert page.inner_text(".tile .timer") == stood
    assert "grayscale" in page.evaluate("getComputedStyle(document.getElementById('content')).filter")
    live.proxy.stalled = False
    live.proxy.cut()
    wait(page, "document.documentElement.dataset.feed === 'live'")
    expect(page.locator("[data-banner]")).to_have_count(0)


def test_a_stopped_kafka_turns_grey_while_connected(live: LiveBoard, visitor: Visitor) -> None:
    live.put_agent(agent())
    page = visitor.open("#/agents")
    wait(page, "document.documentElement.dataset.feed === 'live'")
    live.kafka_runs = False
    page.wait_for_selector("[data-banner=stale]")
    live.kafka_runs = True
    wait(page, "document.documentElement.dataset.feed === 'live'")


def test_states_become_unknown_after_a_minute(live: LiveBoard, visitor: Visitor) -> None:
    live.put_agent(agent())
    page = visitor.open("#/agents")
    live.kafka_runs = False
    live.do(lambda: setattr(live.board.freshness, "kafka_at_us", live.now_us() - 61_000_000))
    wait(page, "document.documentElement.dataset.feed === 'unknown'")
    live.put_agent(agent(revision=2))
    expect(page.locator(".tile")).to_have_attribute("data-state", "unknown")


@pytest.mark.parametrize("shift_min", [7, -7, 60, -60])
def test_timers_follow_the_server_not_the_browser(live: LiveBoard, visitor: Visitor, shift_min: int) -> None:
    live.put_agent(agent(since=format_rfc3339(live.now_us() - 100_000_000)))
    page = visitor.open(timezone_id="America/New_York")
    page.add_init_script(f"const real = Date.now; Date.now = () => real() + {shift_min * 60_000};")
    page.reload()
    page.wait_for_selector(".tile .timer:not(:empty)")
    wait(page, "document.querySelector('.tile .timer').textContent.includes(':')")
    page.wait_for_timeout(1500)
    text, now_us = page.inner_text(".tile .timer"), live.now_us()
    minutes, seconds = map(int, text.split(":"))
    since_s = (now_us - parse_rfc3339(live.board.window.agents["voipex", "novak"].row["since"])) / 1e6
    assert abs(minutes * 60 + seconds - since_s) < 4


@pytest.mark.parametrize(
    ("at", "wall"),
    [
        ("2026-03-29T00:59:59.000000Z", "01:59:59"),
        ("2026-03-29T01:00:00.000000Z", "03:00:00"),
        ("2026-10-25T00:30:00.000000Z", "02:30:00"),
        ("2026-10-25T01:30:00.000000Z", "02:30:00"),
    ],
)
def test_wall_times_are_those_of_prague(live: LiveBoard, visitor: Visitor, at: str, wall: str) -> None:
    live.set_now(parse_rfc3339(at) + 60_000_000)
    live.put_call(timeline(started_at=at, updated_at=at))
    page = visitor.open("#/calls", timezone_id="America/New_York")
    expect(page.locator("tr[data-call] .when")).to_have_text(wall)


# ---------------------------------------------------------------- sums and doubt


def test_drawn_sums_are_those_of_the_documents(live: LiveBoard, visitor: Visitor) -> None:
    calls: list[Json] = []
    for name in scenario_names():
        trace = read_trace(lines_of(scenario(name)))
        calls += [{**each, "call_id": f"{name}.{each['call_id']}"} for each in explain(trace).timelines]
    live.set_now(max(parse_rfc3339(each["updated_at"]) for each in calls))
    for each in calls:
        live.put_call(each)
    page = visitor.open("#/calls")
    differing = []
    for each in calls:
        name = f"{each['pbx']}/{each['call_id']}"
        page.goto(f"{live.url}/#/call/{name}")
        page.wait_for_selector(f'[data-call="{name}"] .drawing')
        if page.locator(".call-head [role=alert]").count():
            differing.append(f"{each['call_id']}: {page.inner_text('.call-head')}")
        assert page.locator("table.events tbody tr").count() == len(each["events"])
        assert page.locator(".event-tick").count() == len(each["events"])
    assert differing == []


def test_a_day_draws_what_it_prints(live: LiveBoard, visitor: Visitor) -> None:
    filled(live)
    live.events = simulated_events(500)
    statuses = live.do(
        lambda: [each.document() for each in live.board.window.agents.values() if each.row["days"]]
    )
    page = visitor.open("#/agents")
    drawn = 0
    for status in statuses:
        page.goto(f"{live.url}/#/agent/voipex/{status['agent']}")
        page.wait_for_selector("[data-equal]")
        expect(page.locator("[data-equal]")).to_have_attribute("data-equal", "true")
        talk_s = int(status["days"]["2026-03-02"]["talk_s"])
        expect(page.locator("[data-sum=talk]")).to_have_text(f"{talk_s // 60}:{talk_s % 60:02d}")
        drawn += page.locator("rect.presence").count()
    assert len(statuses) > 8
    assert drawn > 8


def test_a_day_whose_sums_differ_says_so(live: LiveBoard, visitor: Visitor) -> None:
    filled(live)
    status = live.do(live.board.window.agents["voipex", "novak"].document)
    days = {date: {**each, "talk_s": each["talk_s"] + 30} for date, each in status["days"].items()}
    live.put_agent({**status, "days": days, "revision": status["revision"] + 1})
    page = visitor.open("#/agent/voipex/novak")
    expect(page.locator("[data-equal] [role=alert]")).to_contain_text("sums differ")


def test_an_older_revision_does_not_replace_a_newer_one(live: LiveBoard, visitor: Visitor) -> None:
    page = visitor.open()
    found = page.evaluate(
        "async () => { const {Store} = await import('/static/store.mjs'); const store = new Store();"
        " const row = revision => ({agents: {a: {revision}}, date: null});"
        " store.change(row(7)); store.change(row(6)); const kept = store.rows.agents.get('a').revision;"
        " store.change(row(8)); return [kept, store.rows.agents.get('a').revision]; }"
    )
    assert found == [7, 8]


def test_doubt_of_a_missed_caller_has_a_sign(live: LiveBoard, visitor: Visitor) -> None:
    live.put_call(missed("1772438400.1", quality="estimated"))
    live.put_call(missed("1772438400.2", **{"from": "601000002"}))
    page = visitor.open("#/missed")
    expect(page.locator("table.missed tbody tr")).to_have_count(2)
    expect(page.locator("table.missed .quality-estimated")).to_have_count(1)


def test_an_inferred_transfer_is_dashed_and_named(live: LiveBoard, visitor: Visitor) -> None:
    leg = timeline()["legs"][0]
    target = {
        **leg,
        "leg": 2,
        "line": "202",
        "login": "mala",
        "ring_started_at": "2026-03-02T08:00:40.000000Z",
    }
    transfer = {"at": "2026-03-02T08:00:40.000000Z", "from_line": "201", "to_line": "202"}
    for number, kind, confidence in ((1, "attended", "high"), (2, "blind_inferred", "medium")):
        live.put_call(
            timeline(
                f"1772438400.{number}",
                legs=[{**leg, "ended_at": "2026-03-02T08:00:39.000000Z"}, target],
                transfers=[{**transfer, "kind": kind, "confidence": confidence}],
            )
        )
    page = visitor.open("#/call/voipex/1772438400.1")
    expect(page.locator(".connector")).to_have_count(1)
    expect(page.locator(".connector.doubtful")).to_have_count(0)
    page.goto(f"{live.url}/#/call/voipex/1772438400.2")
    expect(page.locator(".connector.doubtful")).to_have_attribute("aria-label", "transfer (inferred), likely")
    dash = page.evaluate("getComputedStyle(document.querySelector('.connector line')).strokeDasharray")
    assert dash != "none"


def test_what_was_inferred_looks_different_and_can_be_hidden(live: LiveBoard, visitor: Visitor) -> None:
    leg = timeline()["legs"][0]
    loser = {
        **leg,
        "leg": 2,
        "line": "202",
        "login": "mala",
        "answered_at": None,
        "result": "no_answer",
        "talk_s": None,
        "inferred": ["ended_at"],
        "ended_at": "2026-03-02T08:00:10.000000Z",
    }
    live.put_call(timeline(legs=[{**leg, "ring_s": 8.0}, {**loser, "ring_s": 8.0}], quality="estimated"))
    page = visitor.open("#/call/voipex/1772438400.1")
    doubtful = page.locator(".drawing .doubtful[aria-label*=inferred]")
    expect(doubtful).to_have_count(2)
    dashes = page.evaluate(
        "[...document.querySelectorAll('rect.doubtful')].map(e => getComputedStyle(e).strokeDasharray)"
    )
    assert all(each != "none" for each in dashes)
    page.get_by_label("show inferred").uncheck()
    expect(doubtful).to_have_count(0)


@pytest.mark.parametrize("quality", ["estimated", "partial"])
def test_doubt_of_a_call_has_a_sign_and_a_name(live: LiveBoard, visitor: Visitor, quality: str) -> None:
    live.put_call(timeline(quality=quality))
    page = visitor.open("#/calls")
    sign = page.locator(f"tr[data-call] .quality-{quality}")
    expect(sign).to_have_attribute("aria-label", quality)
    assert sign.inner_text().strip()


# ---------------------------------------------------------------- five minutes of a supervisor


def busy_morning(live: LiveBoard) -> None:
    """Calls of two queues and of none, in every way that a queue counts."""
    live.set_now(START_US + 600_000_000)
    leg = timeline()["legs"][0]
    none = {"queues": [], "legs": [{**leg, "queue": None}]}
    calls = [
        timeline("1772438400.1"),
        timeline("1772438400.2", quality="estimated"),
        timeline("1772438400.3", queues=["Obchod"], legs=[{**leg, "queue": "Obchod"}]),
        timeline("1772438400.4", status="talking", ended_at=None),
        timeline("1772438400.5", direction="outgoing"),
        timeline("1772438400.6", direction="outgoing", **none),
        timeline("1772438400.7", **none),
        timeline("1772438400.8", started_at="2026-03-01T08:00:00.000000Z"),
        missed("1772438400.10", **{"from": "601000001"}),
        missed("1772438400.11", outcome="busy", **{"from": "601000002"}),
        missed("1772438400.12", queues=[], **{"from": "601000003"}),
        missed("1772438400.13", outcome="unknown", **{"from": "601000004"}),
        missed("1772438400.14", status="waiting", outcome=None, ended_at=None, **{"from": "601000005"}),
        missed("1772438400.15", status="ringing", outcome=None, ended_at=None, queues=[]),
        missed("1772438400.16", queues=["Obchod"], **{"from": "601000006"}),
        timeline(
            "1772438400.17",
            started_at="2026-03-02T08:03:00.000000Z",
            answered_at="2026-03-02T08:03:05.000000Z",
            **{"direction": "outgoing", "from": "201", "to": "601000006"},
        ),
    ]
    for each in calls:
        live.put_call(each)


def test_every_number_of_a_queue_opens_as_many_calls(live: LiveBoard, visitor: Visitor) -> None:
    busy_morning(live)
    page = visitor.open("#/queues")
    wait(page, "document.querySelectorAll('table.queues tbody tr').length === 3")
    links = page.evaluate(
        "[...document.querySelectorAll('table.queues tbody td a')].map(e => [e.getAttribute('href'), Number(e.textContent)])"
    )
    for href, count in links:
        page.goto(f"{live.url}/{href}")
        expect(page.locator("tr[data-call]"), f"{href} shows not {count}").to_have_count(
            count, timeout=WITHIN_MS
        )
    assert len(links) >= 8


def test_who_waits_and_who_was_missed_is_seen_from_every_view(live: LiveBoard, visitor: Visitor) -> None:
    busy_morning(live)
    page = visitor.open("#/agents")
    for view in VIEWS[:4]:
        page.goto(f"{live.url}/{view}")
        expect(page.locator("nav a[href='#/queues'] .count")).to_have_text("2 waiting")
        expect(page.locator("nav a[href='#/missed'] .count")).to_have_text("3 not called back")
    page.goto(f"{live.url}/#/wall")
    expect(page.locator(".wall-sums")).to_contain_text("2 waiting")
    expect(page.locator(".wall-sums")).to_contain_text("3 not called back")


def test_a_filter_by_queue_is_chosen_and_left(live: LiveBoard, visitor: Visitor) -> None:
    busy_morning(live)
    page = visitor.open("#/calls")
    everything = page.locator("tr[data-call]").count
    until(lambda: everything() == 16, "not all calls are there")
    page.get_by_label("queue").select_option(label="Obchod")
    expect(page.locator("tr[data-call]")).to_have_count(2)
    page.get_by_label("queue").select_option(label="(no queue)")
    expect(page.locator("tr[data-call]")).to_have_count(4)
    page.get_by_label("queue").select_option(label="all queues")
    expect(page.locator("tr[data-call]")).to_have_count(16)


@pytest.mark.parametrize("live", ["wall"], indirect=True)
def test_a_wall_opens_calls_without_whole_numbers(live: LiveBoard, visitor: Visitor) -> None:
    live.put_call(timeline())
    event = {"event_id": "e1", "event_name": "Ringing", "type": "ringing", "line": "201", "effect": "rang"}
    live.put_call(
        timeline("1772438400.2", events=[{**event, "at": "2026-03-02T08:00:02.000000Z", "note": None}])
    )
    live.put_call(missed("1772438400.3", "08:02:00"))
    for view in (*VIEWS, "#/call/voipex/1772438400.1", "#/call/voipex/1772438400.2"):
        page = visitor.open(view)
        page.wait_for_timeout(300)
        assert "777888999" not in page.content(), view
    page.wait_for_selector(".drawing")
    expect(page.locator("table.events tbody tr")).to_have_count(1)
    page.goto(f"{live.url}/#/missed")
    expect(page.locator("table.missed")).to_contain_text("······999")


@pytest.mark.parametrize("language", ["en", "cs"])
@pytest.mark.parametrize("width", [320, 700, 1280, 1920])
def test_no_word_of_the_controls_is_cut(live: LiveBoard, visitor: Visitor, width: int, language: str) -> None:
    filled(live)
    page = visitor.open(viewport={"width": width, "height": 800}, locale=language)
    for view in VIEWS:
        page.goto(f"{live.url}/{view}")
        page.wait_for_timeout(300)
        cut = page.evaluate(
            "[...document.querySelectorAll('nav a, button, th, dt, dd, label, summary, .state-word, .banner, .clocks span, .wall-sums span')]"
            ".filter(e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline' && !e.querySelector('.name, .hidden, details[open]'))"
            ".map(e => e.outerHTML.slice(0, 100))"
        )
        assert cut == [], view


# ---------------------------------------------------------------- everybody


def filled(live: LiveBoard) -> Json:
    live.set_now(START_US + 200_000_000)
    documents = simulated(500)
    live.fill(documents)
    return max(documents.timelines, key=lambda each: len(each["legs"]))


@pytest.mark.parametrize(
    ("theme", "width", "language"),
    [
        ("light", 1280, "en"),
        ("dark", 1280, "cs"),
        ("contrast", 1280, "en"),
        ("light", 320, "cs"),
        ("dark", 1920, "en"),
    ],
)
def test_axe_finds_nothing(live: LiveBoard, visitor: Visitor, theme: str, width: int, language: str) -> None:
    call = filled(live)
    page = visitor.open(viewport={"width": width, "height": 800}, locale=language)
    page.evaluate(
        "([theme, language]) => { localStorage.theme = theme; localStorage.language = language; }",
        [theme, language],
    )
    page.reload()
    found = {}
    for view in (*VIEWS, f"#/call/voipex/{call['call_id']}", "#/agent/voipex/novak"):
        page.goto(f"{live.url}/{view}")
        page.wait_for_timeout(500)
        results = Axe().run(
            page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
        )
        for each in results.response["violations"]:
            found[f"{view} {each['id']}"] = [node["html"][:160] for node in each["nodes"][:3]]
        if width == 320:
            assert page.evaluate("document.documentElement.scrollWidth") <= 320, view
    assert found == {}


def test_every_view_is_reached_by_the_keyboard(live: LiveBoard, visitor: Visitor) -> None:
    filled(live)
    page = visitor.open()
    for key, view in (("2", "queues"), ("3", "calls"), ("4", "missed"), ("1", "agents")):
        page.keyboard.press(key)
        wait(page, f"location.hash === '#/{view}'")
    page.keyboard.press("/")
    page.keyboard.type("novak2")
    expect(page.locator(".tile")).to_have_count(1)
    page.keyboard.press("Tab")
    for _ in range(40):
        if page.evaluate("document.activeElement.classList.contains('tile')"):
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    wait(page, "location.hash.startsWith('#/agent/')")


def test_arrows_step_through_the_events_of_a_call(live: LiveBoard, visitor: Visitor) -> None:
    call = filled(live)
    page = visitor.open(f"#/call/voipex/{call['call_id']}")
    page.wait_for_selector("tr[aria-selected=true]")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator("tr[aria-selected=true] td").first).to_have_text("3")
    expect(page.locator(".event-tick.selected")).to_have_count(1)


def test_targets_are_large_enough(live: LiveBoard, visitor: Visitor) -> None:
    filled(live)
    page = visitor.open()
    for view in VIEWS[:4]:
        page.goto(f"{live.url}/{view}")
        page.wait_for_timeout(400)
        small = page.evaluate(
            "[...document.querySelectorAll('a, button, select, input, summary')].filter(e => { const r = e.getBoundingClientRect();"
            " return r.width && getComputedStyle(e).position !== 'absolute' && (r.width < 24 || r.height < 24); }).map(e => e.outerHTML.slice(0, 90))"
        )
        assert small == [], view


@pytest.mark.parametrize("view", ["#/agents", "#/wall"])
def test_tiles_hold_their_lines_at_wide_text_spacing(live: LiveBoard, visitor: Visitor, view: str) -> None:
    """WCAG 2.2, 1.4.12: line height 1.5, characters 0.12 em and words 0.16 em apart."""
    filled(live)
    page = visitor.open(view)
    page.wait_for_selector(".tile")
    spacing = (
        "* { line-height: 1.5 !important; letter-spacing: .12em !important; word-spacing: .16em !important; }"
    )
    page.evaluate(
        "rule => { const sheet = document.styleSheets[0]; sheet.insertRule(rule, sheet.cssRules.length); }",
        spacing,
    )
    cut = page.evaluate(
        "[...document.querySelectorAll('.tile')].filter(e => e.scrollHeight > e.clientHeight).map(e => e.textContent)"
    )
    assert cut == []


def test_the_wall_is_readable_from_afar(live: LiveBoard, visitor: Visitor) -> None:
    for number in range(45):
        live.put_agent(agent(f"agent{number:02d}"))
    page = visitor.open("#/wall", viewport={"width": 1920, "height": 1080})
    page.wait_for_selector(".tile")
    sizes = page.evaluate(
        "[...document.querySelectorAll('.tile .name, .tile .timer, .tile .glyph')].map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(sizes) >= 56
    expect(page.locator(".tile")).to_have_count(30)
    page.get_by_role("button", name="Next").click()
    expect(page.locator(".tile")).to_have_count(15)


def test_czech_and_english_have_the_same_words(live: LiveBoard, visitor: Visitor) -> None:
    page = visitor.open()
    missing = page.evaluate(
        "async () => { const {CATALOGUES} = await import('/static/words.mjs');"
        " const keys = (o, p = '') => Object.entries(o).flatMap(([k, v]) => v && typeof v === 'object' && !('other' in v && 'one' in v)"
        " ? keys(v, p + k + '.') : [p + k]); const [a, b] = [keys(CATALOGUES.cs), keys(CATALOGUES.en)];"
        " return [...a.filter(k => !b.includes(k)), ...b.filter(k => !a.includes(k))]; }"
    )
    assert missing == []
    forms = page.evaluate(
        "async () => { const {plural, setLanguage} = await import('/static/words.mjs'); setLanguage('cs');"
        " return [1, 2, 5, 1.5].map(n => plural('agentCount', n)); }"
    )
    assert forms == ["1 operátor", "2 operátoři", "5 operátorů", "1.5 operátora"]


# ---------------------------------------------------------------- for hours


def metrics(page: Page) -> dict[str, float]:
    cdp = page.context.new_cdp_session(page)
    cdp.send("Performance.enable")
    for _ in range(3):
        cdp.send("HeapProfiler.collectGarbage")
    found = {each["name"]: each["value"] for each in cdp.send("Performance.getMetrics")["metrics"]}
    cdp.detach()
    return found


@pytest.mark.parametrize("view", ["#/agents", "#/calls", "#/wall"])
def test_a_page_that_stays_open_does_not_grow(live: LiveBoard, visitor: Visitor, view: str) -> None:
    chance = random.Random(3)

    def change(revision: int) -> None:
        for number in chance.sample(range(300), 50):
            live.put_agent(agent(f"agent{number:03d}", revision=revision))
            live.put_call(timeline(f"1772438400.{number}", revision=revision))

    for number in range(300):
        live.put_agent(agent(f"agent{number:03d}"))
        live.put_call(timeline(f"1772438400.{number}"))
    page = visitor.open(view)
    for revision in range(2, 12):
        change(revision)
        page.wait_for_timeout(150)
    before = metrics(page)
    for revision in range(12, 52):
        change(revision)
        page.wait_for_timeout(150)
    after = metrics(page)
    assert after["JSHeapUsedSize"] - before["JSHeapUsedSize"] < 3e6
    assert abs(after["Nodes"] - before["Nodes"]) < before["Nodes"] * 0.1


def test_timers_do_not_lay_the_page_out_one_by_one(live: LiveBoard, visitor: Visitor) -> None:
    for number in range(300):
        live.put_agent(agent(f"agent{number:03d}"))
    page = visitor.open("#/agents")
    expect(page.locator(".tile")).to_have_count(300)
    before = metrics(page)
    page.wait_for_timeout(3000)
    assert metrics(page)["LayoutCount"] - before["LayoutCount"] < 300


def test_changes_write_no_attribute_of_the_whole_page(live: LiveBoard, visitor: Visitor) -> None:
    """Each write of one, even of the same value, styles and lays out every tile anew."""
    live.put_agent(agent("agent000"))
    page = visitor.open("#/agents")
    expect(page.locator(".tile")).to_have_count(1)
    page.evaluate(
        """() => {
          window.written = [];
          new MutationObserver(found => window.written.push(...found.map(each => each.attributeName)))
            .observe(document.documentElement, {attributes: true});
        }"""
    )
    live.put_agent(agent("agent000", state="on_call"))
    page.wait_for_selector(".tile.state-on_call")
    page.wait_for_timeout(2000)

    assert page.evaluate("window.written") == []


def test_tiles_fill_whole_rows_at_any_width(live: LiveBoard, visitor: Visitor) -> None:
    """They are in bands, of which the browser leaves out those off screen; neither may be seen."""
    for number in range(100):
        live.put_agent(agent(f"agent{number:03d}"))
    page = visitor.open("#/agents")
    expect(page.locator(".tile")).to_have_count(100)

    def rows() -> list[int]:
        found: list[float] = page.evaluate(
            "[...document.querySelectorAll('.tile')].map(each => each.getBoundingClientRect().top)"
        )
        return [found.count(top) for top in dict.fromkeys(found)]

    for width, columns in ((1900, 9), (1000, 5), (520, 2), (320, 1)):
        page.set_viewport_size({"width": width, "height": 800})
        full, left = divmod(100, columns)
        wanted = [columns] * full + [left] * bool(left)
        until(lambda wanted=wanted: rows() == wanted, f"{width} px: {rows()}", 10)  # type: ignore[misc]
        # The style sheet is first to know the width; how high a band is to be follows a moment later.
        page.wait_for_function(
            "columns => [...document.querySelectorAll('.band')].every("
            "band => band.style.getPropertyValue('--rows') == Math.ceil(band.children.length / columns))",
            arg=columns,
        )
        height = page.evaluate("document.documentElement.scrollHeight")
        page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollHeight") == height


# ---------------------------------------------------------------- hostile


HOSTILE = ('<img src=x onerror="alert(1)">', "\u202edrow", "x" * 300, "\ud83d", "'\"&<b>", "")


def test_hostile_names_are_text(live: LiveBoard, visitor: Visitor) -> None:
    for number, name in enumerate(HOSTILE):
        text = name.encode(errors="replace").decode()
        live.put_agent(
            agent(
                f"a{number}",
                login=text or None,
                pause_name=text,
                state="paused",
                queues={text: {"logged_in": True, "paused": True}},
            )
        )
        live.put_call(timeline(f"1772438400.{number}", queues=[text], **{"from": text}))
    page = visitor.open()
    for view in (*VIEWS, "#/call/voipex/1772438400.0", "#/agent/voipex/a0"):
        page.goto(f"{live.url}/{view}")
        page.wait_for_timeout(300)
        assert page.locator("img, b.x, script:not([src])").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_unknown_values_are_shown_as_text(live: LiveBoard, visitor: Visitor) -> None:
    live.put_agent(agent(state="levitating", activity="juggling", presence="elsewhere"))
    live.put_call(timeline(outcome="vanished", quality="dubious", direction="sideways"))
    leg = {**timeline()["legs"][0], "role": "ghost", "result": "evaporated"}
    live.put_call(timeline("1772438400.2", status="pondering", legs=[leg]))
    page = visitor.open("#/agents")
    expect(page.locator(".tile")).to_contain_text("levitating")
    page.goto(f"{live.url}/#/calls")
    expect(page.locator("table.calls")).to_contain_text("vanished")
    expect(page.locator("table.calls")).to_contain_text("pondering")
    page.goto(f"{live.url}/#/call/voipex/1772438400.2")
    page.wait_for_selector(".drawing")


def test_a_call_of_500_events_and_100_legs_is_drawn(live: LiveBoard, visitor: Visitor) -> None:
    leg = timeline()["legs"][0]
    legs = [{**leg, "leg": number, "line": str(200 + number)} for number in range(1, 101)]
    events = [
        {
            "event_id": f"e{number}",
            "type": "ringing",
            "event_name": "Ringing",
            "at": f"2026-03-02T08:00:{number % 60:02d}.000000Z",
            "line": "201",
            "effect": "rang",
            "note": None,
        }
        for number in range(500)
    ]
    live.put_call(timeline(legs=legs, events=events))
    page = visitor.open("#/call/voipex/1772438400.1")
    expect(page.locator(".event-tick")).to_have_count(500)
    expect(page.locator(".lane")).to_have_count(100)


def test_no_number_is_in_an_address(live: LiveBoard, visitor: Visitor) -> None:
    live.put_call(missed("1772438400.1"))
    page = visitor.open("#/missed")
    page.keyboard.press("/")
    page.keyboard.type("777888999")
    expect(page.locator("table.missed tbody tr")).to_have_count(1)
    addresses = [page.url]
    page.get_by_role("link", name="Calls").click()
    expect(page.locator("tr[data-call]")).to_have_count(1)
    addresses.append(page.url)
    page.locator("tr[data-call] a").click()
    page.wait_for_selector(".drawing")
    addresses.append(page.url)
    assert not [url for url in [*visitor.urls, *addresses] if re.search(r"777888999", url)]


def test_pause_holds_the_picture_and_counts(live: LiveBoard, visitor: Visitor) -> None:
    live.put_agent(agent())
    page = visitor.open("#/agents")
    page.wait_for_selector(".tile")
    page.keyboard.press("p")
    live.put_agent(agent(state="paused", revision=2))
    expect(page.locator(".held")).not_to_have_text(re.compile("^0"))
    expect(page.locator(".tile")).to_have_attribute("data-state", "available")
    page.keyboard.press("p")
    expect(page.locator(".tile")).to_have_attribute("data-state", "paused", timeout=WITHIN_MS)
