"""
Write or check the generated pages.

    python -m tools.docs write      after a setting, an error, a model, a topic or a fold changed (`make contract`)
    python -m tools.docs check      exit 1 and name the files that differ from what the code generates
    python -m tools.docs release    keep today's schemas and examples as those of this version (--again: until it is published)
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bridge.settings import Settings as BridgeSettings
from consumers.settings import Settings as ConsumerSettings
from tools import generated
from tools.docs import contract
from tools.docs.hangup_causes import hangup_causes_page
from tools.docs.http_responses import responses_page
from tools.docs.settings import settings_page
from voipex.service.settings import BoardSettings

DOCS: Final = Path("docs")  # relative to the repository, where this command runs


def pages(docs: Path = DOCS) -> dict[str, str]:
    """Return every generated page: name relative to docs/ -> text. The trace below *docs* is the only input besides the code."""
    trace = (docs / "contract" / contract.TRACE).read_bytes()
    return {
        "settings.md": settings_page(BridgeSettings, "Settings", "voipex/service/settings.py"),
        "settings-consumers.md": settings_page(
            ConsumerSettings, "Settings of the consumers", "voipex/service/settings.py"
        ),
        "settings-board.md": settings_page(
            BoardSettings, "Settings of the board", "voipex/service/settings.py"
        ),
        "http-responses.md": responses_page(),
        "hangup-causes.md": hangup_causes_page(),
        **{f"contract/{name}": text for name, text in contract.documents(trace).items()},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.docs", description="Generated pages in docs/.")
    parser.add_argument("action", choices=["write", "check", "release"])
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the documentation (docs)")
    parser.add_argument(
        "--again", action="store_true", help="release: write over a version that is not published yet"
    )
    options = parser.parse_args(arguments)
    docs: Path = options.docs
    if not (docs / "contract" / contract.TRACE).is_file():
        parser.error(f"{docs / 'contract' / contract.TRACE} does not exist")
    if options.action == "write":
        for name in generated.write(docs, pages(docs)):
            sys.stdout.write(f"wrote {docs / name}\n")
        return 0
    names = generated.drifted(docs, pages(docs))
    for name in names:
        sys.stderr.write(f"{docs / name} differs from the code: run `make contract`\n")
    if names:
        return 1
    return _release(docs / "contract", again=options.again) if options.action == "release" else 0


def _release(folder: Path, *, again: bool) -> int:
    version = contract.project_version()
    kept = contract.release(folder, version, again=again)
    if kept is None:
        sys.stderr.write(
            f"releases/{version} exists: set the new version in pyproject.toml first, or say --again if {version} is not published\n"
        )
        return 1
    sys.stdout.write(f"kept releases/{version}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
