"""Take the pictures of docs/pictures, of every view in both themes: `make pictures`."""

import sys
from pathlib import Path
from typing import Final

from playwright.sync_api import sync_playwright

from tests.board_fixtures import simulated, simulated_events
from tests.browser.conftest import LiveBoard
from tools import browser as browsers
from voipex.timestamps import parse_rfc3339

FOLDER: Final = Path("docs/pictures")
_SETTLED_MS: Final = 1500


def main() -> int:
    """Write a PNG per view and theme. Returns the exit code."""
    FOLDER.mkdir(exist_ok=True)
    live = LiveBoard()
    documents = simulated(900)
    live.set_now(max(parse_rfc3339(each["updated_at"]) for each in documents.timelines) + 5_000_000)
    live.fill(documents)
    live.events = simulated_events(900)
    call = max(
        (each for each in documents.timelines if each["quality"] == "estimated" and len(each["legs"]) <= 9),
        key=lambda each: (each["transferred"], len(each["legs"])),
    )
    views = {
        "agents": "#/agents",
        "queues": "#/queues",
        "calls": "#/calls",
        "missed": "#/missed",
        "wall": "#/wall",
        "call": f"#/call/voipex/{call['call_id']}",
        "day": "#/agent/voipex/novak",
    }
    path = browsers.find()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=path, env={**browsers.environment(path)}, args=["--no-sandbox", "--disable-gpu"]
        )
        for theme in ("dark", "light"):
            context = chromium.new_context(
                viewport={"width": 1200, "height": 700},
                color_scheme="dark" if theme == "dark" else "light",
                locale="en",
            )
            page = context.new_page()
            for name, view in views.items():
                page.goto(f"{live.url}/{view}")
                page.wait_for_timeout(_SETTLED_MS)
                page.screenshot(path=FOLDER / f"{name}-{theme}.png")
            context.close()
        chromium.close()
    live.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
