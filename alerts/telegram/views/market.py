"""/price, /cvd and /book: what an instrument costs now, who presses, what stands in its book."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from alerts.telegram.markup import Reply, again, bold, code, opening, safe
from alerts.telegram.words import UNKNOWN, age, number, percent, signed, when
from market import Timeframe, WrongUse
from storage import lately, read
from storage.resample import Buckets

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from alerts.telegram.asked import Asked, Market
    from alerts.telegram.markup import Button
    from storage.lately import MarketNow

CANDLES = 96
BOOK_LEVELS = 10
MOST_CHOICES = 8
MOST_PRICES = 30
OLDEST_CANDLES = 12
"""Candles are looked for over this many times the span of a picture; older ones are found by their newest."""


def price(asked: Asked) -> Reply:
    """The last price of what the words mean, or of what this chat watches."""
    markets = asked.markets()
    rows = lately.latest_markets(asked.connection, markets[:MOST_PRICES])
    return Reply(price_text(rows, asked.now, len(markets)), (again(asked.line), *_to_pictures(rows)))


def price_text(rows: Sequence[MarketNow], now: datetime, of: int) -> str:
    """A block a market; what is stale is said to be."""
    if not rows:
        return "No trades on the tape yet: <code>deltatape up</code> collects them."
    blocks = [_price_block(row, now) for row in rows]
    if of > len(rows):
        blocks.append(f"{of - len(rows)} more: name one, or /watch some")
    return "\n\n".join(blocks)


def _price_block(row: MarketNow, now: datetime) -> str:
    head = f"{bold(row.symbol)} on {market_name(row.exchange)}"
    if row.price is None or row.trade_timestamp is None:
        return f"{head}\nno trade yet"
    before = row.price_before
    change = f"  {percent(100 * (row.price / before - 1))} in 24 h" if before else ""
    lines = [head, f"{bold(number(row.price))}{change}"]
    parts = []
    if row.cvd is not None:
        parts.append(f"CVD of the day {signed(row.cvd)}")
    if row.spread_bps is not None:
        parts.append(f"spread {row.spread_bps:.3g} bps")
    if row.imbalance is not None:
        parts.append(f"book {percent(row.imbalance, 0)}")
    lines += [" · ".join(parts)] if parts else []
    return "\n".join([*lines, age((now - row.trade_timestamp).total_seconds())])


def market_name(exchange: str) -> str:
    """The exchange; one that is none is never taken for one."""
    return "<b>simulated</b> (no real market)" if exchange == "simulated" else safe(exchange)


def _to_pictures(rows: Sequence[MarketNow]) -> list[tuple[Button, ...]]:
    found = [opening(f"CVD {row.symbol}", f"cvd {row.exchange} {row.symbol} 15m") for row in rows[:3]]
    return [row for row in found if row]


def cvd(asked: Asked) -> Reply:
    """A picture of an instrument's candles and CVD."""
    from alerts.charts import candles_png

    words, timeframe = _with_timeframe(asked.words)
    if not words:
        raise WrongUse("name an instrument, like /cvd BTC/USDT 15m")
    found = lately_matching(asked, words)
    if len(found) > 1:
        return choose("cvd", found, f" {timeframe}")
    exchange, symbol = found[0]
    length = Buckets.parse(timeframe).length
    now = int(asked.now.timestamp() * 1e6)
    candles = None
    # With a beginning, the chunks of a long past are not even looked at.
    for start in (now - OLDEST_CANDLES * CANDLES * length, None):
        candles = read.candles(
            asked.url, exchange, symbol, timeframe, start, limit=CANDLES, closed_only=False
        )
        if len(candles):
            break
    if candles is None or not len(candles):
        return Reply(f"No {safe(timeframe)} candles of {bold(symbol)} on {safe(exchange)} yet.")
    title = f"{symbol}  {timeframe}  {exchange}"
    line = f"cvd {exchange} {symbol} {timeframe}"
    last = candles.row(-1, named=True)
    return Reply(
        cvd_text(exchange, symbol, timeframe, last, asked.now),
        _pictures_beside(exchange, symbol, timeframe, line),
        candles_png(title, candles, length, theme=asked.theme),
    )


def cvd_text(exchange: str, symbol: str, timeframe: str, last: dict[str, Any], now: datetime) -> str:
    """The caption of a picture: its last candle in numbers, and what is not whole."""
    cvd_close = last["cvd_close"]
    lines = [
        f"{bold(symbol)} {safe(timeframe)} on {market_name(exchange)}",
        f"close {bold(number(last['close']))}"
        + ("" if cvd_close is None else f" · CVD of the day {signed(cvd_close)}"),
        f"candle of {when(last['timestamp'])}" + ("" if last["is_closed"] else ", still open"),
    ]
    if not last["is_whole"] and last["is_closed"]:
        lines.append("⚠ this candle touches a hole: /gaps")
    length = Buckets.parse(timeframe).length / 1e6
    old = (now - last["timestamp"]).total_seconds() - length
    if old > length:
        lines.append(age(max(old, 61.0)))
    return "\n".join(lines)


def _pictures_beside(exchange: str, symbol: str, timeframe: str, line: str) -> tuple[tuple[Button, ...], ...]:
    others = [
        button
        for each in ("1m", "15m", "1h", "4h", "1d")
        if each != timeframe
        for button in again(f"cvd {exchange} {symbol} {each}", label=each)
    ]
    rows = (again(line), tuple(others))
    return tuple(row for row in rows if row)


def _with_timeframe(words: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """The words without the timeframe at their end, and that; 15m without one."""
    if len(words) > 1:
        try:
            return words[:-1], Buckets.parse(words[-1].lower()).text
        except WrongUse:
            if words[-1][:1].isdigit():
                raise
    return words, Timeframe.M15.value


def lately_matching(asked: Asked, words: tuple[str, ...]) -> list[Market]:
    """The instruments that `words` mean."""
    from alerts.telegram.asked import matching

    return matching(lately.known_markets(asked.connection), words)


def choose(command: str, found: Sequence[Market], rest: str = "") -> Reply:
    """Which of several was meant, as buttons."""
    rows = [
        opening(f"{symbol} on {exchange}", f"{command} {exchange} {symbol}{rest}")
        for exchange, symbol in found[:MOST_CHOICES]
    ]
    names = ", ".join(code(f"{exchange} {symbol}") for exchange, symbol in found[:MOST_CHOICES])
    return Reply(f"Which one? {names}", tuple(row for row in rows if row))


def book(asked: Asked) -> Reply:
    """The best levels of an instrument's book."""
    if not asked.words:
        raise WrongUse("name an instrument, like /book BTC/USDT")
    found = asked.markets()
    if len(found) > 1:
        return choose("book", found)
    exchange, symbol = found[0]
    frame = read.books(asked.url, exchange, symbol, limit=1)
    if not len(frame):
        return Reply(f"No book of {bold(symbol)} on {safe(exchange)} on the tape.")
    line = f"book {exchange} {symbol}"
    buttons = again(line)
    return Reply(book_text(frame.row(0, named=True), asked.now), (buttons,) if buttons else ())


def book_text(row: dict[str, Any], now: datetime) -> str:
    """Ten levels a side, the asks on top, and the numbers about them."""
    bids, asks = (json.loads(row[name])[:BOOK_LEVELS] for name in ("bids_json", "asks_json"))
    width = max((len(number(level[0])) for level in (*bids, *asks)), default=1)
    lines = [f"{bold(row['symbol'])} on {market_name(row['exchange'])}, {when(row['timestamp'])}"]
    lines += [_level("ask", level, width) for level in reversed(asks)]
    lines.append(f"<code>{UNKNOWN * 3} spread {row['spread_bps']:.3g} bps {UNKNOWN * 3}</code>")
    lines += [_level("bid", level, width) for level in bids]
    lines.append(
        f"bids {number(row['bid_volume'])} · asks {number(row['ask_volume'])}"
        f" · imbalance {percent(row['imbalance'], 1)}"
    )
    return "\n".join([*lines, age((now - row["timestamp"]).total_seconds())])


def _level(side: str, level: Sequence[float], width: int) -> str:
    return f"<code>{side} {number(level[0]):>{width}}  {number(level[1])}</code>"
