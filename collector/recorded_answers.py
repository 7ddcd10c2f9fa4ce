"""The REST answers of a recording, found by what a client asks for."""

import asyncio
from urllib.parse import parse_qsl, urlsplit

from msgspec import Struct

_SIZES = frozenset(("limit", "count", "size", "sz", "depth"))
"""Parameters that say how much is wanted, not what."""
_Parameters = frozenset[tuple[str, str]]


class RecordedAnswer(Struct, eq=False):
    """A body that came at `t` (microseconds UTC); `asked` is set once it was asked for."""

    t: int
    body: bytes
    asked: asyncio.Event


class RecordedAnswers:
    """All answers, by request.

    A request matches what was recorded for the same path and parameters; else for the same path and the same
    parameters but those of size (`limit`, `count`, …); else for the same path without any, which is the whole
    of what a narrower request asks a part of.
    """

    def __init__(self) -> None:
        self._by_request: dict[tuple[str, _Parameters], list[RecordedAnswer]] = {}

    def add(self, url: str, t: int, body: bytes) -> RecordedAnswer:
        """`url` was answered with `body` at `t`. Those of one URL come in the order of time."""
        answer = RecordedAnswer(t, body, asyncio.Event())
        self._by_request.setdefault(_request(url), []).append(answer)
        return answer

    def take(self, target: str) -> RecordedAnswer | None:
        """The answer to `target` (path and query), None if none was recorded.

        Each is given once, in order, and the last one from then on.
        """
        answers = self._find(target)
        if not answers:
            return None
        answer = next((each for each in answers if not each.asked.is_set()), answers[-1])
        answer.asked.set()
        return answer

    def _find(self, target: str) -> list[RecordedAnswer] | None:
        path, wanted = _request(target)
        if found := self._by_request.get((path, wanted)):
            return found
        for (other, parameters), answers in self._by_request.items():
            if other == path and _without_sizes(parameters) == _without_sizes(wanted):
                return answers
        return self._by_request.get((path, frozenset()))


def _request(url: str) -> tuple[str, _Parameters]:
    parts = urlsplit(url)
    return parts.path, frozenset(parse_qsl(parts.query, keep_blank_values=True))


def _without_sizes(parameters: _Parameters) -> _Parameters:
    return frozenset(parameter for parameter in parameters if parameter[0] not in _SIZES)
