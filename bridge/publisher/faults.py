"""How a failed delivery is classed."""

from typing import Literal

Fault = Literal["retry", "topic", "rights", "too_large", "refused", "unsure"]
"""
What a failed delivery means: try again with a new producer; the topic or partition is not there; a right is missing; the broker will
never take this batch, or so it seems.
"""
