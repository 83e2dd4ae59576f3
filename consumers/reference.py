"""
docs/settings-consumers.md, made from the consumers' `Settings` as the bridge's page is made from its own.

`python -m consumers.reference write` writes it, `check` fails when it is not what the code says.
"""

import sys
from typing import Final

from bridge.reference import Pages, main, settings_page
from consumers.settings import Settings

PAGES: Final[Pages] = {
    "settings-consumers.md": lambda: settings_page(
        Settings, "Settings of the consumers", "consumers/settings.py"
    ),
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], PAGES))
