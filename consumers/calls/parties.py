"""Who is who in a call (contract 4, "L is the event's party")."""

from dataclasses import dataclass
from typing import Protocol


class PartyLike(Protocol):
    """Whatever names a party: an event, a leg, the caller."""

    @property
    def line(self) -> str | None: ...
    @property
    def login(self) -> str | None: ...
    @property
    def email(self) -> str | None: ...


def is_blank(party: PartyLike) -> bool:
    return party.line is None and party.login is None and party.email is None


def same_party(one: PartyLike, other: PartyLike) -> bool:
    """Same Line; where either has none, same Login, else same Email; a blank party equals only a blank one."""
    if one.line is not None and other.line is not None:
        return one.line == other.line
    if one.login is not None and other.login is not None:
        return one.login.casefold() == other.login.casefold()
    if one.email is not None and other.email is not None:
        return one.email.casefold() == other.email.casefold()
    return is_blank(one) and is_blank(other)


def same_person(one: PartyLike, other: PartyLike) -> bool:
    """Same party, or the same Login at another line: the opposite of *another person*."""
    if same_party(one, other):
        return True
    return (
        one.login is not None and other.login is not None and one.login.casefold() == other.login.casefold()
    )


@dataclass(slots=True, eq=False)
class Party:
    """Each is itself only; who is who says `same_party`."""

    line: str | None
    login: str | None
    email: str | None

    def fill(self, other: PartyLike) -> bool:
        """Take over what *other* knows; blank never replaces a value (rule 1). True when that changed something."""
        before = (self.line, self.login, self.email)
        if other.line is not None:
            self.line = other.line
        if other.login is not None:
            self.login = other.login
        if other.email is not None:
            self.email = other.email
        return before != (self.line, self.login, self.email)
