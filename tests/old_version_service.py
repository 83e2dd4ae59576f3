"""
A service of the version before: `python -m tests.old_version_service <service>`. Its rules are today's, under a smaller number; so it takes what the
newer one wrote for another version's, as a real one would.
"""

import sys

from consumers import service as run
from consumers import settings
from consumers.agents import memory
from consumers.agents.projection import AgentProjection
from consumers.calls import projection as calls


def main() -> None:
    for module, projection in ((calls, calls.CallProjection), (memory, AgentProjection)):
        projection.fold_version -= 1
        vars(module)["FOLD_VERSION"] = projection.fold_version
    run.run(sys.argv[1], settings.load(), "0")


if __name__ == "__main__":
    main()
