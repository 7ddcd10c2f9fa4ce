"""What must hold after every run: the tables are the ground truth, and every hole is on record once.

All is computed here anew, from the simulator's files and with exact decimals, by none of our own code but
the simulated order book. What a run gives is a list of sentences: empty when everything holds.

Which ids arrived live: the simulator logs which trades it sent unaltered to which connection. A trade that it
sent to none *cannot* have arrived live, so it must lie in exactly one recorded hole. A trade that it sent
over a connection which then ended may or may not have been read and committed before: where the collector was
killed, what the database did not hold just after; elsewhere what was sent in the connection's last seconds.
So such a trade may lie in a hole or not; and each hole must hold at least one trade of either kind.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import groupby, pairwise
from math import isclose
from typing import Any, NamedTuple

from msgspec import json

from collector.simulator.book import SimulatedBook
from collector.simulator.market import SimulatedMarket
from market import DAY, MICROSECONDS
from tests.soak.parts import rows

MINUTE = 60 * MICROSECONDS
LENGTHS = {"1m": MINUTE, "5m": 5 * MINUTE, "15m": 15 * MINUTE, "1h": 60 * MINUTE, "1d": DAY}
_MOMENT = "(extract(epoch FROM {}) * 1000000)::bigint"
_MOST = 3  # of the same complaint


class Traded(NamedTuple):
    """A trade of the ground truth."""

    symbol: str
    trade_id: str
    time: int
    price: str
    size: str
    side: str

    @property
    def signed(self) -> Decimal:
        return Decimal(self.size) if self.side == "buy" else -Decimal(self.size)


class Sent(NamedTuple):
    """A trade that went over a connection by a simulated moment."""

    symbol: str
    trade_id: str
    time: int
    connection: int


class Evidence(NamedTuple):
    """What a run leaves.

    Attributes:
        seed: of the simulated market.
        truth: every trade, by symbol, in tape order.
        log: the simulator's fault log.
        kills: for each kill -9 of the collector, the connections that were open, and the (symbol, trade id)
            that the database held just after.
        slack: simulated microseconds for what was still on its way when a connection was cut.
    """

    seed: int
    truth: dict[str, list[Traded]]
    log: list[dict[str, Any]]
    kills: list[tuple[set[int], set[tuple[str, str]]]]
    slack: int

    @property
    def sent(self) -> list[Sent]:
        return [
            Sent(line["symbol"], trade_id, line["time"], line["connection"])
            for line in self.log
            if line["event"] == "sent"
            for trade_id in line["trade_ids"]
        ]


def truth_by_symbol(lines: Iterable[dict[str, str]]) -> dict[str, list[Traded]]:
    found: dict[str, list[Traded]] = defaultdict(list)
    for line in lines:
        trade = Traded(
            line["symbol"],
            line["trade_id"],
            int(line["timestamp_us"]),
            line["price"],
            line["size"],
            line["side"],
        )
        found[trade.symbol].append(trade)
    return {symbol: sorted(trades, key=_order) for symbol, trades in found.items()}


def _order(trade: Traded) -> tuple[int, int]:
    return trade.time, int(trade.trade_id)


def expected(evidence: Evidence, stored_last: dict[str, int]) -> dict[str, list[Traded]]:
    """By symbol, the trades that must be on the tape: from the first one sent to the last one.

    Later ones happened while the collector was away for good; nobody could know of them. But those up to
    `stored_last` (the newest stored trade's time) must be whole.
    """
    times = {(t.symbol, t.trade_id): t.time for trades in evidence.truth.values() for t in trades}
    first: dict[str, int] = {}
    last = dict(stored_last)
    connections = {line["connection"] for line in evidence.log if line["event"] == "opened"}
    for sent in evidence.sent:
        time = times[sent.symbol, sent.trade_id]
        first[sent.symbol] = min(first.get(sent.symbol, time), time)
        if sent.connection == max(connections):
            last[sent.symbol] = max(last.get(sent.symbol, 0), time)
    return {
        symbol: [t for t in trades if first[symbol] <= t.time <= last.get(symbol, 0)]
        for symbol, trades in evidence.truth.items()
        if symbol in first
    }


def complaints(url: str, evidence: Evidence) -> Iterator[str]:
    """Everything that is not as it must be."""
    stored_last = dict(
        rows(url, f"SELECT symbol, max({_MOMENT.format('timestamp')}) FROM trades GROUP BY symbol")
    )
    yield from _absent(evidence)
    must = expected(evidence, stored_last)
    for symbol, trades in sorted(must.items()):
        found = [
            *_trades(url, symbol, trades),
            *_candles(url, symbol, trades),
            *_points(url, symbol, trades),
            *_coverage(url, symbol, trades),
            *_holes(url, symbol, trades, evidence),
            *_books(url, symbol, evidence),
        ]
        for what, several in groupby(found, key=lambda text: text.split(":")[0]):
            texts = list(several)
            yield from (f"{symbol}: {text}" for text in texts[:_MOST])
            if len(texts) > _MOST:
                yield f"{symbol}: {what}: {len(texts) - _MOST} more"
    strange = set(stored_last) - set(must)
    if strange:
        yield f"trades of {strange}, of which nothing was sent"


def _absent(evidence: Evidence) -> Iterator[str]:
    """The collector must have been there at the end: else nobody could know of the last trades."""
    gone = {line["symbol"] for line in evidence.log if line.get("kind") == "delisting"}
    last = {symbol: t[-1].trade_id for symbol, t in evidence.truth.items() if symbol not in gone}
    sent = {(each.symbol, each.trade_id) for each in evidence.sent}
    for symbol, trade_id in last.items():
        if (symbol, trade_id) not in sent:
            yield f"{symbol}: nobody was there for the last trade, {trade_id}"


def _key(trade: Traded) -> tuple[Any, ...]:
    return (trade.trade_id, trade.time, float(trade.price), float(trade.size), trade.side)


def _trades(url: str, symbol: str, trades: Sequence[Traded]) -> Iterator[str]:
    """The same rows, in the same order, each once; the CVD at each is the exact sum of its day."""
    stored = rows(
        url,
        f"SELECT trade_id, {_MOMENT.format('timestamp')}, price, size, side, trade_seq::text, fill_count,"
        " cvd_at_trade FROM trades WHERE symbol = %s ORDER BY timestamp, trades.trade_seq",
        [symbol],
    )
    have, must = Counter(row[:5] for row in stored), Counter(map(_key, trades))
    for row in (must - have).elements():
        yield f"trade missing: {row}"
    for row in (have - must).elements():
        yield f"trade too much or wrong: {row}"
    if have != must:
        return
    if [row[0] for row in stored] != [trade.trade_id for trade in trades]:
        yield "order: the trades do not stand in the order in which they happened"
    for row in stored:
        if row[5] != row[0] or row[6] != 1:
            yield f"trade_seq or fill_count: {row}"
    day, total = None, Decimal(0)
    for trade, row in zip(trades, stored, strict=True):
        if trade.time // DAY != day:
            day, total = trade.time // DAY, Decimal(0)
        total += trade.signed
        if row[7] != float(total):
            yield f"cvd_at_trade: {trade.trade_id} has {row[7]!r}, must have {float(total)!r}"


def _candles(url: str, symbol: str, trades: Sequence[Traded]) -> Iterator[str]:
    """Candles of every timeframe equal those of the trades; minutes without any are flat."""
    columns = "open, high, low, close, volume, buy_volume, sell_volume, vwap, trade_count, cvd_close"
    for name, length in LENGTHS.items():
        stored = {
            row[0]: row[1:]
            for row in rows(
                url,
                f"SELECT {_MOMENT.format('timestamp')}, {columns}, source FROM candles"
                " WHERE symbol = %s AND interval = %s",
                [symbol, name],
            )
        }
        built = dict(_built(trades, length))
        for moment in sorted(built.keys() | stored.keys()):
            if _is_same(stored.get(moment), built.get(moment)):
                continue
            if moment not in built and stored[moment][-1] == "exchange" and moment < trades[0].time:
                continue  # from before the tape begins
            if moment not in built and moment > trades[-1].time:
                continue  # time went on without a trade: how far, coverage says
            yield f"{name} candle: at {_text(moment)} is {stored.get(moment)}, must be {built.get(moment)}"


def _is_same(one: tuple[Any, ...] | None, other: tuple[Any, ...] | None) -> bool:
    """Equal; the average price, a quotient of which the database keeps some 20 digits, in the last one."""
    if one is None or other is None or one[7] is None or other[7] is None:
        return one == other
    return isclose(one[7], other[7], rel_tol=1e-15) and one[:7] + one[8:] == other[:7] + other[8:]


def _built(trades: Sequence[Traded], length: int) -> Iterator[tuple[int, tuple[Any, ...]]]:
    by_bucket = {key: list(group) for key, group in groupby(trades, key=lambda t: t.time // length)}
    close, day, cvd = "0", None, Decimal(0)
    for bucket in range(min(by_bucket), max(by_bucket) + 1):
        inside = by_bucket.get(bucket, [])
        for trade in inside:
            if trade.time // DAY != day:
                day, cvd = trade.time // DAY, Decimal(0)
            cvd += trade.signed
        if bucket * length // DAY != day:
            day, cvd = bucket * length // DAY, Decimal(0)
        if inside:
            close = inside[-1].price
        prices = [Decimal(trade.price) for trade in inside] or [Decimal(close)]
        sizes = [Decimal(trade.size) for trade in inside]
        bought = sum((Decimal(trade.size) for trade in inside if trade.side == "buy"), Decimal(0))
        total = sum(sizes, Decimal(0))
        spent = sum((Decimal(t.price) * Decimal(t.size) for t in inside), Decimal(0))
        yield (
            bucket * length,
            (
                *map(float, (prices[0], max(prices), min(prices), Decimal(close))),
                *map(float, (total, bought, total - bought)),
                float(spent / total) if inside else None,
                len(inside),
                float(cvd),
                "trades",
            ),
        )


def _points(url: str, symbol: str, trades: Sequence[Traded]) -> Iterator[str]:
    """CVD every ten seconds: the sum of the day's trades before it; none is missing between the trades."""
    stored = dict(
        rows(url, f"SELECT {_MOMENT.format('timestamp')}, cvd FROM cvd_snapshots WHERE symbol = %s", [symbol])
    )
    step = 10 * MICROSECONDS
    coming, total, day = iter([*trades, None]), Decimal(0), trades[0].time // DAY
    trade = next(coming)
    for moment in range(trades[0].time // step * step + step, trades[-1].time - 10 * MICROSECONDS, step):
        if (moment - 1) // DAY != day:
            total, day = Decimal(0), (moment - 1) // DAY
        while trade is not None and trade.time < moment:
            total += trade.signed if trade.time // DAY == day else 0
            trade = next(coming)
        if stored.get(moment) != float(total):
            yield f"CVD: at {_text(moment)} is {stored.get(moment)!r}, must be {float(total)!r}"


def _coverage(url: str, symbol: str, trades: Sequence[Traded]) -> Iterator[str]:
    """The spans reach from the first trade to the last without a hole."""
    spans = rows(
        url,
        f"SELECT {_MOMENT.format('from_timestamp')}, {_MOMENT.format('to_timestamp')} FROM stream_coverage"
        " WHERE symbol = %s AND stream = 'trades' ORDER BY 1",
        [symbol],
    )
    if not spans or spans[0][0] > trades[0].time or spans[-1][1] <= trades[-1].time:
        yield f"coverage: {spans} does not reach from {trades[0].time} to {trades[-1].time}"
    for one, other in pairwise(spans):
        if one[1] != other[0]:
            yield f"coverage: a hole or an overlap from {_text(one[1])} to {_text(other[0])}"


def _holes(url: str, symbol: str, trades: Sequence[Traded], evidence: Evidence) -> Iterator[str]:
    """Closed all; each trade that was never sent in exactly one; in each one that did not arrive live."""
    holes = rows(
        url,
        f"SELECT id, from_id, to_id, {_MOMENT.format('from_timestamp')}, {_MOMENT.format('to_timestamp')},"
        " status, cause FROM stream_gaps WHERE symbol = %s AND stream = 'trades' ORDER BY id",
        [symbol],
    )
    for hole in holes:
        if hole[5] != "healed":
            yield f"hole not healed: {hole}"
    inside = _inside(symbol, trades, holes, evidence)
    sent = {each.trade_id for each in evidence.sent if each.symbol == symbol}
    unsent = {trade.trade_id for trade in trades} - sent
    for trade_id in sorted(unsent, key=int):
        if len(inside[trade_id]) != 1:
            yield f"never sent, but not in exactly one hole: {trade_id} in {inside[trade_id]} of {holes}"
    for trade_id, numbers in inside.items():
        if len(numbers) > 1:
            yield f"in several holes: {trade_id} in {numbers}"
    doubtful = unsent | _doubtful(symbol, evidence)
    with_lost = {number for trade_id in doubtful for number in inside.get(trade_id, [])}
    for hole in holes:
        is_mark = hole[6] == "id_reset" and hole[3] == hole[4]
        if hole[0] not in with_lost and not is_mark:
            yield f"hole without a lost trade: {hole}"


def _inside(
    symbol: str, trades: Sequence[Traded], holes: Sequence[tuple[Any, ...]], evidence: Evidence
) -> dict[str, list[int]]:
    """The holes in which each trade lies: by ids where a hole has them, else by time."""
    of_symbol = [line for line in evidence.log if line.get("symbol") == symbol]
    resets = [line["begin"] for line in of_symbol if line.get("kind") == "id_reset"]
    placed = [(t.trade_id, int(t.trade_id), t.time, any(t.time >= at for at in resets)) for t in trades]
    inside: dict[str, list[int]] = defaultdict(list)
    for number, first_id, last_id, begin, end, *_ in holes:
        is_of_new = any(end > moment for moment in resets)
        first, last = (None, None) if first_id is None else (int(first_id), int(last_id))
        for trade_id, id_number, time, is_new in placed:
            if first is None or last is None:
                is_in = begin <= time < end
            else:
                is_in = first <= id_number <= last and is_new == is_of_new
            if is_in:
                inside[trade_id].append(number)
    return inside


def _doubtful(symbol: str, evidence: Evidence) -> set[str]:
    """Trades that were sent over a connection that then ended, and perhaps never came through."""
    found: set[str] = set()
    ended = {line["connection"]: line["time"] for line in evidence.log if line["event"] in ("closed", "cut")}
    for each in evidence.sent:
        if each.symbol != symbol:
            continue
        is_lost = any(
            each.connection in open_then and (symbol, each.trade_id) not in stored
            for open_then, stored in evidence.kills
        )
        end = ended.get(each.connection)
        if is_lost or (end is not None and each.time > end - evidence.slack):
            found.add(each.trade_id)
    return found


def _books(url: str, symbol: str, evidence: Evidence) -> Iterator[str]:
    """Each stored book is the market's: none was taken of a stale one. Wrong clocks tell wrong seconds."""
    market = SimulatedMarket(evidence.seed, symbol)
    book = SimulatedBook(market)
    tick, lot = f"e-{market.price_decimals}", f"e-{market.size_decimals}"
    jumps = [(line["begin"], line["end"]) for line in evidence.log if line.get("kind") == "clock_jump"]
    stored = rows(
        url,
        "SELECT extract(epoch FROM timestamp)::bigint, bids_json::text, asks_json::text, depth"
        " FROM orderbook_snapshots WHERE symbol = %s ORDER BY 1",
        [symbol],
    )
    for second, bids, asks, depth in stored:
        moment = second * MICROSECONDS
        if any(begin - 200 * MICROSECONDS <= moment <= end + 200 * MICROSECONDS for begin, end in jumps):
            continue
        state = book.state(second - 1)
        for side, text, true in (("bids", bids, state.bids), ("asks", asks, state.asks)):
            levels = json.decode(text, type=list[tuple[float, float]])
            must = [(float(f"{price}{tick}"), float(f"{size}{lot}")) for price, size in true[:depth]]
            if levels != must:
                yield f"book: {side} at {_text(moment)} are {levels[:3]}, must be {must[:3]}"


def _text(moment: int) -> str:
    return datetime.fromtimestamp(moment / MICROSECONDS).astimezone().isoformat()
