"""
A service of the previous version: `python -m tests.old_version_service <service>`. It has today's rules under a smaller version number, so it
treats the states of the newer one as those of another version, like a real one.
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
