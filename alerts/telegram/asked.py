"""A question as its command gets it, and the instruments and numbers that its words mean."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from market import WrongUse
from storage import lately, watches

if TYPE_CHECKING:
    from datetime import datetime

    from alerts.charts import Theme
    from storage.database import Connection

Market = tuple[str, str]
"""Exchange and symbol."""
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Asked:
    """One question.

    Attributes:
        connection: the database, in autocommit mode.
        url: the same.
        now: by the database's clock.
        chat: where it was asked.
        words: what followed the command.
        line: the command and these words, for the buttons below the answer.
        page: of a list; 0 is the newest.
        theme: how pictures look.
        channels: of alerts, by name; the first one is meant where none is named.
        notes: lines about the bot itself, for /health.
    """

    connection: Connection
    url: str
    now: datetime
    chat: int
    words: tuple[str, ...]
    line: str
    page: int
    theme: Theme
    channels: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def count(self, default: int, most: int, what: str) -> int:
        """The only word as a number from 1 to `most`; `default` without one."""
        if not self.words:
            return default
        if len(self.words) > 1 or not re.fullmatch(r"\d{1,6}", self.words[0]):
            raise WrongUse(f"give one number, {what}, up to {most}")
        return min(max(int(self.words[0]), 1), most)

    def id(self, what: str) -> str:
        """The only word, an id; a # before it is left out."""
        if len(self.words) != 1:
            raise WrongUse(f"give the id of one {what}")
        return self.words[0].removeprefix("#")

    def markets(self) -> list[Market]:
        """The instruments that the words mean: those this chat watches, or all, without a word."""
        known = lately.known_markets(self.connection)
        if self.words:
            return matching(known, self.words)
        watched = set(watches.watched(self.connection, self.chat))
        return [market for market in known if market in watched] or known


def matching(known: list[Market], words: tuple[str, ...]) -> list[Market]:
    """The instruments that `words` mean, such as `BTC/USDT`, `btcusdt`, `btc` or `kraken btc/usd`.

    Raises:
        WrongUse: there is none; the text names some that there are.
    """
    *first, wanted = words
    exchange = first[0].lower() if len(first) == 1 else None
    among = [market for market in known if exchange in (None, market[0])] if len(first) < 2 else []
    for fits in (_is_symbol, _is_spelt_so, _is_base):
        if found := [market for market in among if fits(market[1], wanted)]:
            return found
    some = ", ".join(" ".join(market) for market in known[:_SHOWN]) or "none yet"
    raise WrongUse(f"no trades of {' '.join(words)!r} on the tape; there are: {some}")


def _is_symbol(symbol: str, wanted: str) -> bool:
    return symbol == wanted.upper()


def _is_spelt_so(symbol: str, wanted: str) -> bool:
    return _letters(symbol) == _letters(wanted) != ""


def _is_base(symbol: str, wanted: str) -> bool:
    return symbol.split("/")[0] == wanted.upper()


def _letters(text: str) -> str:
    return re.sub("[^a-z0-9]", "", text.lower())
