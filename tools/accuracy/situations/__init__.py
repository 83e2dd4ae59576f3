"""Every situation that the company plays."""

from tools.accuracy.situations import incoming, internal, outgoing, transfers
from tools.accuracy.situations.register import SITUATIONS, Situation

__all__ = ["SITUATIONS", "Situation", "incoming", "internal", "outgoing", "transfers"]
