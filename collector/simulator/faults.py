"""Which faults the simulator has, and when: a schedule that follows from a seed alone.

All is in simulated time, so the same seed gives the same faults at the same moments of the same market,
whatever the speed and whoever listens. What really was traded never depends on what was sent of it.
"""

from collections.abc import Collection, Sequence
from typing import Literal, get_args

from msgspec import Struct

from collector.simulator.noise import bit_at, key_of
from market import MICROSECONDS, WrongUse

Kind = Literal[
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
    "throttle",
    "slow_rest",
    "broken_rest",
    "old_book",
    "delisting",
    "id_reset",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
HOUR = 3600 * MICROSECONDS
MOST_FAULTS = 100_000
"""Of a schedule."""
_CALM_BEFORE, _CALM_AFTER = 1, 3
"""Slots at both ends in which nothing fails: something is collected before, all is healed after."""
_MARKET: frozenset[Kind] = frozenset(("delisting", "id_reset"))
_OF_ONE_SYMBOL: frozenset[Kind] = frozenset(("lost_trade", "lost_delta", "sequence_break", "bad_checksum"))
_LENGTHS: dict[Kind, tuple[float, float]] = {  # of a slot, shortest and longest
    "cut": (0.0, 0.0),
    "half_open": (0.5, 1.5),
    "stall": (0.2, 1.2),
    "burst": (0.0, 0.0),
    "maintenance": (0.5, 1.5),
    "halt": (0.5, 1.2),
    "reorder": (0.3, 1.0),
    "malformed": (0.1, 0.6),
    "absurd": (0.1, 0.6),
    "clock_jump": (0.2, 0.8),
}
_LENGTH = (0.2, 1.0)

_SPEAK: dict[Kind, frozenset[str]] = {
    "sequence_break": frozenset(("binance", "binanceusdm", "bybit", "htx", "okx")),
    "bad_checksum": frozenset(("kraken", "okx")),
    "clock_jump": frozenset(("binance", "binanceusdm")),
    "delisting": frozenset(("binance",)),
    "id_reset": frozenset(("binance",)),
}
"""The protocols in which a fault makes sense, where it does not in all."""


class Fault(Struct, frozen=True, kw_only=True):
    """One fault: what fails from `begin` until before `end`, in microseconds UTC of simulated time.

    Attributes:
        kind: cut (every connection, without a word), half_open (they stay open but silent, then are cut),
            stall (silent, then all at once), burst (the last minutes are all sent again at once),
            maintenance (connections are cut and refused, REST says 503; trading goes on), halt (the same, but
            the trades of that time happen at its end), duplicate, reorder (neighbours change places within
            two seconds), lost_trade and lost_delta (some are never sent), sequence_break (the book's update
            ids jump), bad_checksum, malformed (some messages are no messages), absurd (some hold NaN,
            negative or huge numbers, or the year 2099), clock_jump (the exchange's clock is wrong; the times
            of trades are right), throttle (REST says 429, then 418, with Retry-After), slow_rest, broken_rest
            (answers end early), old_book (REST gives books of the past), delisting (the symbol trades no more
            from `begin` on), id_reset (its trade ids begin anew at 1).
        symbol: whose messages; None for everybody's.
        key: what the details are drawn from.
    """

    kind: Kind
    begin: int
    end: int
    symbol: str | None
    key: int

    def is_on(self, time: int, symbol: str | None = None) -> bool:
        """Whether it concerns what has to do with `symbol` at `time`; None is everybody's."""
        return self.begin <= time < self.end and (self.symbol is None or symbol in (None, self.symbol))

    def draw(self, *what: int | str) -> int:
        """64 random bits for one detail, always the same for the same `what`."""
        return key_of(self.key, *what)


def possible(protocol: str) -> tuple[Kind, ...]:
    """The kinds of faults that an exchange with this protocol can have."""
    return tuple(kind for kind in KINDS if protocol in _SPEAK.get(kind, (protocol,)))


def schedule(
    seed: int, begin: int, end: int, symbols: Sequence[str], *, every: int, kinds: Collection[Kind] = KINDS
) -> list[Fault]:
    """The faults of a market that runs from `begin` to `end`, in the order in which they begin.

    Time is divided into slots of `every`; one fault begins in each, but the first and the last three stay
    calm. No kind comes a second time before every one has come once.

    Args:
        seed: the same one gives the same faults.
        begin: microseconds UTC.
        end: microseconds UTC.
        symbols: unified symbols that are traded.
        every: microseconds from one fault to the next.
        kinds: what may fail; see `Fault`.

    Raises:
        WrongUse: there would be too many faults.
    """
    slots = (end - begin) // every
    if slots > MOST_FAULTS:
        raise WrongUse(f"{slots:,} faults are too many: at most {MOST_FAULTS:,}, so let them be rarer")
    key = key_of("faults", seed)
    chosen = [kind for kind in KINDS if kind in kinds and kind not in _MARKET]
    found = _of_markets(key, begin, end, symbols, every, kinds)
    for slot in range(_CALM_BEFORE, slots - _CALM_AFTER if chosen else 0):
        deal, place = divmod(slot - _CALM_BEFORE, len(chosen))
        deck = sorted(chosen, key=lambda kind, deal=deal: key_of(key, "deck", deal, kind))  # type: ignore[misc]
        found.append(_fault(deck[place], key_of(key, slot), begin + slot * every, symbols, every))
    return sorted(found, key=lambda fault: fault.begin)


def _fault(kind: Kind, key: int, slot: int, symbols: Sequence[str], every: int) -> Fault:
    shortest, longest = _LENGTHS.get(kind, _LENGTH)
    begin = slot + bit_at(key, 0) % every
    length = max(int(every * (shortest + (longest - shortest) * _share(key, 1))), 1)
    end = begin + length
    if kind == "halt":
        # The market keeps each hour for itself.
        end = min(end, begin - begin % HOUR + HOUR)
    symbol = symbols[bit_at(key, 2) % len(symbols)] if kind in _OF_ONE_SYMBOL else None
    return Fault(kind=kind, begin=begin, end=end, symbol=symbol, key=key)


def _of_markets(
    key: int, begin: int, end: int, symbols: Sequence[str], every: int, kinds: Collection[Kind]
) -> list[Fault]:
    """At most one instrument's ids begin anew, at a full hour; at most one of several is delisted."""
    found = []
    calm_begin, calm_end = begin + _CALM_BEFORE * every, end - _CALM_AFTER * every
    hours = range(calm_begin - calm_begin % HOUR + HOUR, calm_end, HOUR)
    if "id_reset" in kinds and hours and _share(key, 3) < 0.5:
        moment = hours[bit_at(key, 4) % len(hours)]
        symbol = symbols[bit_at(key, 5) % len(symbols)]
        found.append(Fault(kind="id_reset", begin=moment, end=moment + 1, symbol=symbol, key=key))
    middle = (calm_begin + calm_end) // 2
    if "delisting" in kinds and len(symbols) > 1 and middle < calm_end and _share(key, 6) < 0.3:
        moment = middle + bit_at(key, 7) % (calm_end - middle)
        symbol = symbols[bit_at(key, 8) % len(symbols)]
        found.append(Fault(kind="delisting", begin=moment, end=end, symbol=symbol, key=key))
    return found


def _share(key: int, index: int) -> float:
    return (bit_at(key, index) >> 11) * 2.0**-53
