"""Who may ask: the users that are allowed, wherever they write. All others get nothing, and are counted."""

from __future__ import annotations

from dataclasses import dataclass, field

from alerts.telegram.words import plural

MOST_KNOWN = 10_000


@dataclass(slots=True)
class Access:
    """The allowed users, and how many others came.

    Attributes:
        users: ids of those who may ask.
        refused: how often somebody else wrote or pressed.
        strangers: ids of those, MOST_KNOWN at most.
    """

    users: frozenset[int]
    refused: int = 0
    strangers: set[int] = field(default_factory=set)

    def is_allowed(self, user: int | None) -> bool:
        """Whether this user may ask; one who may not is counted. None: nobody says who it is."""
        if user in self.users:
            return True
        self.refused += 1
        if user is not None and len(self.strangers) < MOST_KNOWN:
            self.strangers.add(user)
        return False

    def note(self) -> str:
        """How many strangers there were, for people."""
        if not self.refused:
            return "strangers: none"
        people = plural(len(self.strangers), "person", "people")
        return f"strangers: {plural(self.refused, 'attempt')} of {people}, none answered"
