"""/mute and /unmute: what is not told for a while. The `…_question` checks what is meant, and asks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from alerts.telegram.asked import matching
from alerts.telegram.markup import Reply, bold
from alerts.telegram.words import duration, when
from market import WrongUse
from market.timeframe import MICROSECONDS, from_datetime, to_datetime
from storage import lately, mutes
from storage.mutes import Mute
from storage.outbox import AlertType

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from alerts.telegram.asked import Asked

HOURS = 8
MOST_SECONDS = 30 * 86_400
_UNITS = {"m": 60, "min": 60, "h": 3600, "d": 86_400}
_KINDS = [kind.value for kind in AlertType]
_SPAN = re.compile(r"(\d{1,4})(m|min|h|d)")


def mute_lines(silent: Iterable[Mute]) -> list[str]:
    """A line about each thing that is silenced."""
    return [f"🔇 {_name(each)} is mute until {when(to_datetime(each.until))}" for each in silent]


def mute_question(asked: Asked) -> Reply:
    """Whether to silence something."""
    wanted, seconds = _wanted(asked)
    return Reply(f"Mute {_name(wanted)} for {duration(seconds)}? Critical alerts come all the same.")


def mute(asked: Asked) -> str:
    """Silence something for a while."""
    wanted, _ = _wanted(asked)
    mutes.mute(asked.connection, wanted)
    (line,) = mute_lines([wanted])
    return f"{line}. /unmute ends it."


def unmute_question(asked: Asked) -> Reply:
    """Whether to let something be heard again."""
    return Reply(f"Let {_name(_unwanted(asked))} be heard again?")


def unmute(asked: Asked) -> str:
    """Let something be heard again; a channel as a whole, where nothing else is named."""
    wanted = _unwanted(asked)
    if mutes.unmute(asked.connection, wanted):
        return f"🔔 {_name(wanted)} is heard again."
    return f"{_name(wanted)} was not mute."


def _wanted(asked: Asked) -> tuple[Mute, int]:
    found = [_SPAN.fullmatch(word.lower()) for word in asked.words]
    spans = [int(each[1]) * _UNITS[each[2]] for each in found if each]
    if len(spans) > 1 or any(not 0 < span <= MOST_SECONDS for span in spans):
        raise WrongUse("give one time up to 30d, like /mute 8h or /mute BTC/USDT 30m")
    seconds = (spans or [HOURS * 3600])[0]
    until = from_datetime(asked.now) + seconds * MICROSECONDS
    names = [word for word, each in zip(asked.words, found, strict=True) if not each]
    return _meant(asked, names, until), seconds


def _unwanted(asked: Asked) -> Mute:
    return _meant(asked, asked.words, 0)


def _meant(asked: Asked, words: Sequence[str], until: int) -> Mute:
    """What words name: a channel, a kind of alert, an instrument, an exchange, a strategy, or some of them.

    Raises:
        WrongUse: they name something else, or one kind of thing twice.
    """
    known = lately.known_markets(asked.connection)
    exchanges = {exchange for exchange, _ in known}
    found: dict[str, str] = {}
    for word in words:
        kind, name = _named(asked, word, exchanges) or ("symbol", word)
        if kind in found:
            raise WrongUse(f"{found[kind]!r} and {word!r}: name one, and mute the other by itself")
        found[kind] = name
    if "symbol" in found:
        found["symbol"] = _symbol(asked, known, found.get("exchange"), found["symbol"])
    return Mute(channel=found.pop("channel", asked.channels[0]), until=until, **found)


def _named(asked: Asked, word: str, exchanges: set[str]) -> tuple[str, str] | None:
    """Which of Mute's attributes a word is, and how it is written there; None: none but perhaps a symbol."""
    if word in asked.channels:
        return "channel", word
    if word.lower() in _KINDS:
        return "alert_type", word.lower()
    if word.lower() in exchanges:
        return "exchange", word.lower()
    if lately.knows_strategy(asked.connection, word):
        return "strategy", word
    return None


def _symbol(asked: Asked, known: list[tuple[str, str]], exchange: str | None, word: str) -> str:
    try:
        symbols = sorted({symbol for _, symbol in matching(known, (exchange, word) if exchange else (word,))})
    except WrongUse as error:
        raise WrongUse(
            f"{error}. Channels: {', '.join(asked.channels)}. Kinds: {', '.join(_KINDS)}"
        ) from None
    if len(symbols) > 1:
        raise WrongUse(f"which one: {', '.join(symbols)}")
    return symbols[0]


def _name(wanted: Mute) -> str:
    channel = bold(wanted.channel)
    return f"{bold(wanted.subject)} on {channel}" if wanted.subject else channel
