"""Parties of a call, and when two of them are the same (terms of docs/call-rules.md)."""

from dataclasses import dataclass
from typing import Protocol


class PartyLike(Protocol):
    """Anything that names a party: an event, a leg, the caller."""

    @property
    def line(self) -> str | None: ...
    @property
    def login(self) -> str | None: ...
    @property
    def email(self) -> str | None: ...


def is_blank(party: PartyLike) -> bool:
    return party.line is None and party.login is None and party.email is None


def same_party(one: PartyLike, other: PartyLike) -> bool:
    """Compare by Line; where either has none, by Login, else by Email, both in any case. A blank party equals only a blank one."""
    if one.line is not None and other.line is not None:
        return one.line == other.line
    if one.login is not None and other.login is not None:
        return one.login.casefold() == other.login.casefold()
    if one.email is not None and other.email is not None:
        return one.email.casefold() == other.email.casefold()
    return is_blank(one) and is_blank(other)


def same_person(one: PartyLike, other: PartyLike) -> bool:
    """Whether two are the same party, or have the same Login at two lines. The rules call the opposite "another person"."""
    if same_party(one, other):
        return True
    return (
        one.login is not None and other.login is not None and one.login.casefold() == other.login.casefold()
    )


@dataclass(slots=True, eq=False)
class Party:
    """The names of a party. Objects compare by identity; `same_party` compares the names."""

    line: str | None
    login: str | None
    email: str | None

    def fill(self, other: PartyLike) -> bool:
        """Rule 1: take over the values of *other* that are not blank. Return whether one changed."""
        before = (self.line, self.login, self.email)
        if other.line is not None:
            self.line = other.line
        if other.login is not None:
            self.login = other.login
        if other.email is not None:
            self.email = other.email
        return before != (self.line, self.login, self.email)
