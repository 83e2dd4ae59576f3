"""The list of situations, filled by the modules that play them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tools.accuracy.world import Play, World

Script = Callable[[World, str], Play]


@dataclass(frozen=True, slots=True)
class Situation:
    """
    weight: how often a day plays it, beside others. needs_reasons: without Reasons no event tells how it ends, so that only a PBX that
    sends them plays it.
    """

    name: str
    title: str
    script: Script
    weight: int
    needs_reasons: bool


SITUATIONS: Final[dict[str, Situation]] = {}


def situation(title: str, *, weight: int = 1, needs_reasons: bool = False) -> Callable[[Script], Script]:
    """Register a script as a situation; its name is that of the function."""

    def register(script: Script) -> Script:
        name = script.__name__
        SITUATIONS[name] = Situation(name, title, script, weight, needs_reasons)
        return script

    return register
