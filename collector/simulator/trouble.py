"""What faults make of one connection's messages and of REST's answers. Pure: no I/O, no clock, no chance."""

import gzip
import re
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct, structs

from collector.simulator.faults import HOUR, Fault, Kind
from collector.simulator.market import SimulatedMarket
from collector.simulator.protocol import Message
from market import MICROSECONDS

REORDER_WITHIN = 2 * MICROSECONDS
"""How much later than its time a message is sent, at most, that changes places with its neighbour."""
BURST = 5_000
"""Messages of the past that a burst sends again, at most."""
OLD_BOOK = 30 * MICROSECONDS
"""How far back the books lie that REST gives when they are old."""
_OF_LINES: frozenset[Kind] = frozenset(
    (
        "cut",
        "half_open",
        "stall",
        "burst",
        "maintenance",
        "halt",
        "duplicate",
        "reorder",
        "lost_trade",
        "lost_delta",
        "sequence_break",
        "bad_checksum",
        "malformed",
        "absurd",
        "clock_jump",
    )
)
_JUMP = 90_000  # milliseconds
_ID_JUMP = 100_000
_NONSENSE = ("", "null", "[]", "{}", "0", '"', "<html>502 Bad Gateway</html>", '{"e":', "\x00", "[[[[")
_ABSURD = ("NaN", "Infinity", "-1.5", "1e300", "-0.00000001", "0x10", "12,5", "")
_YEAR_2099 = "4083955200000"
_NUMBER = re.compile(r'(?<=")\d+\.\d+(?=")|(?<=:)\d+\.\d+(?=[,}])')
_TIME = re.compile(r'(?<=:)\d{13}(?=[,}])|(?<=:")\d{13}(?=")')
_EVENT_TIME = re.compile(r'"E":(\d{13})')
_BOOK_ID = re.compile(r'"(?:U|u|pu|lastUpdateId|seqNum|prevSeqNum|seqId|prevSeqId)":(\d+)')
_CHECKSUM = re.compile(r'"checksum":(-?\d+)')
_BOOK_PATH = re.compile("depth|book", re.IGNORECASE)


class Timeline:
    """Faults by time."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self._faults = sorted(faults, key=lambda fault: fault.begin)
        self._begins = [fault.begin for fault in self._faults]
        self._longest = max((fault.end - fault.begin for fault in self._faults), default=0)

    def between(self, begin: int, end: int) -> list[Fault]:
        """Those that are on at some time with begin <= time < end (microseconds UTC)."""
        low, high = bisect_left(self._begins, begin - self._longest), bisect_left(self._begins, end)
        return [fault for fault in self._faults[low:high] if fault.end > begin]


class Line:
    """One connection under faults: takes what it should be sent, gives what it is sent.

    A message that was altered so that it no longer says what it said is of the kind "other".

    Args:
        faults: of the whole simulation.
        opened: when the connection was opened, microseconds UTC.
    """

    def __init__(self, faults: Iterable[Fault], opened: int) -> None:
        self.is_cut = False
        """Whether it ends here, without a word."""
        self._faults = Timeline(fault for fault in faults if fault.kind in _OF_LINES)
        self._opened = opened
        self._held: list[Message] = []
        self._late: list[Message] = []
        self._past: deque[Message] = deque(maxlen=BURST)

    def take(self, begin: int, end: int, messages: Iterable[Message]) -> list[Message]:
        """What is sent of the `messages` with begin <= time < end (microseconds); ask span after span."""
        active = self._faults.between(begin, end)
        if not (active or self._held or self._late):
            found = list(messages)
            self._past.extend(found)
            return found
        return list(self._sent(begin, end, messages, active))

    def _sent(
        self, begin: int, end: int, messages: Iterable[Message], active: list[Fault]
    ) -> Iterator[Message]:
        ends = [moment for fault in active if (moment := self._end_of(fault)) is not None and moment < end]
        last = min(ends, default=end)
        bursts = [fault.begin for fault in active if fault.kind == "burst" and fault.begin >= begin]
        for message in messages:
            if message.time >= last:
                break
            if bursts and message.time >= bursts[0]:
                yield from list(self._past)
                bursts.clear()
            on = [fault for fault in active if fault.is_on(message.time, message.symbol)]
            if any(fault.kind == "half_open" and fault.begin >= self._opened for fault in on):
                continue
            passed = self._pass(message, on)
            if any(fault.kind == "stall" for fault in on):
                self._held += passed
            else:
                yield from self._release()
                yield from passed
        if ends:
            self.is_cut = True
        elif not any(fault.kind == "stall" and fault.is_on(end) for fault in active):
            yield from self._release()
            yield from self._overdue(end)

    def _end_of(self, fault: Fault) -> int | None:
        """When the fault cuts this connection, if it does."""
        if fault.begin < self._opened:
            return None
        if fault.kind in ("cut", "maintenance", "halt"):
            return fault.begin
        return fault.end - 1 if fault.kind == "half_open" else None

    def _release(self) -> list[Message]:
        held, self._held = self._held, []
        return held

    def _pass(self, message: Message, on: list[Fault]) -> list[Message]:
        """What is sent in the place of one message."""
        self._past.append(message)
        sent = message
        times = 1
        for fault in on:
            draw = fault.draw(message.time, str(message.payload))
            match fault.kind:
                case "lost_trade" if message.kind == "trade" and draw % 3 == 0:
                    return []
                case "lost_delta" if message.kind == "book" and draw % 3 == 0:
                    return []
                case "duplicate" if draw % 2:
                    times = 2
                case "reorder" if draw % 3 == 0:
                    self._late.append(message)
                    return []
            sent = _altered(sent, fault, draw)
        return [sent] * times + self._neighbours(message)

    def _neighbours(self, message: Message) -> list[Message]:
        """Messages that had to wait for this one, of their own kind and symbol."""
        waiting = [each for each in self._late if (each.kind, each.symbol) == (message.kind, message.symbol)]
        self._late = [each for each in self._late if each not in waiting]
        return waiting + self._overdue(message.time)

    def _overdue(self, time: int) -> list[Message]:
        overdue = [each for each in self._late if time - each.time > REORDER_WITHIN]
        self._late = [each for each in self._late if each not in overdue]
        return overdue


def _altered(message: Message, fault: Fault, draw: int) -> Message:
    if fault.kind == "malformed" and draw % 3 == 0:
        return _edited(message, lambda text: _broken(text, draw >> 8))
    if fault.kind == "absurd" and draw % 2:
        return _edited(message, lambda text: _made_absurd(text, draw >> 8))
    if fault.kind == "sequence_break" and message.kind == "book":
        return _edited(message, lambda text: _moved(_BOOK_ID, text, _ID_JUMP))
    if fault.kind == "bad_checksum" and message.kind == "book":
        return _edited(message, lambda text: _moved(_CHECKSUM, text, 1))
    if fault.kind == "clock_jump":
        jump = (fault.draw("jump") % 2 or -1) * (1000 + fault.draw("length") % _JUMP)
        moved = _edited(message, lambda text: _moved(_EVENT_TIME, text, jump))
        # A trade's own time is right.
        return structs.replace(moved, kind=message.kind) if message.kind == "trade" else moved
    return message


def _edited(message: Message, edit: Callable[[str], str]) -> Message:
    """The message with another text; compressed frames stay compressed."""
    payload = message.payload
    before = payload if isinstance(payload, str) else gzip.decompress(payload).decode()
    text = edit(before)
    if text == before:
        return message
    frame = text if isinstance(payload, str) else gzip.compress(text.encode(), mtime=0)
    return structs.replace(message, payload=frame, kind="other")


def _broken(text: str, draw: int) -> str:
    if draw % 2:
        return text[: (draw >> 1) % max(len(text), 1)]
    return _NONSENSE[(draw >> 1) % len(_NONSENSE)]


def _made_absurd(text: str, draw: int) -> str:
    """One number replaced by one that cannot be, or every time by one in 2099."""
    numbers = list(_NUMBER.finditer(text))
    if draw % 4 == 0 or not numbers:
        return _TIME.sub(_YEAR_2099, text)
    found = numbers[(draw >> 2) % len(numbers)]
    value = _ABSURD[(draw >> 16) % len(_ABSURD)]
    return f"{text[: found.start()]}{value}{text[found.end() :]}"


def _moved(pattern: re.Pattern[str], text: str, by: int) -> str:
    """`text` with each number that `pattern` finds made larger."""

    def larger(found: re.Match[str]) -> str:
        return found[0][: found.start(1) - found.start(0)] + str(int(found[1]) + by)

    return pattern.sub(larger, text)


def disturb(market: SimulatedMarket, faults: Iterable[Fault]) -> None:
    """Let a new market have those of `faults` that change what is traded; see `Fault`."""
    halts, closes, reset_hour = [], None, None
    for fault in faults:
        if fault.kind == "halt":
            halts.append((fault.begin // 1000, fault.end // 1000))
        elif fault.kind == "delisting":
            closes = fault.begin // 1000
        elif fault.kind == "id_reset":
            reset_hour = fault.begin // HOUR
    if halts or closes is not None or reset_hour is not None:
        market.disturb(halts=halts, closes=closes, reset_hour=reset_hour)


class RestTrouble(Struct, frozen=True):
    """What befalls one GET.

    Attributes:
        status: of the refusal, 200 for none.
        retry_at: when trying again helps (microseconds UTC), for 429 and 418.
        wait_until: when the answer is sent.
        now: the time whose truth the answer tells.
        is_broken: whether the answer ends early.
    """

    status: int
    retry_at: int | None
    wait_until: int
    now: int
    is_broken: bool


def rest_trouble(faults: Timeline, target: str, now: int) -> RestTrouble:
    """What befalls a GET of `target` (path and query) at `now` (microseconds UTC)."""
    status, retry_at, wait_until, answered, is_broken = 200, None, now, now, False
    for fault in faults.between(now, now + 1):
        match fault.kind:
            case "maintenance" | "halt":
                status = 503
            case "throttle" if status == 200:
                status = 429 if now < (fault.begin + fault.end) // 2 else 418
                retry_at = fault.end
            case "slow_rest":
                wait_until = fault.end
            case "old_book" if _BOOK_PATH.search(target):
                answered = now - OLD_BOOK
            case "broken_rest":
                is_broken = True
            case _:
                pass
    return RestTrouble(status, retry_at, wait_until, answered, is_broken)
