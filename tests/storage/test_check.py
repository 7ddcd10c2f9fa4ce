"""Every rule holds on what our own code writes, and does not once a row is bent."""

import re
from random import Random
from uuid import UUID

import pytest
from psycopg import sql
from streaming import EXCHANGE, HOUR, MIDNIGHT, SECOND, SYMBOL, Span, Streaming
from test_tables import ROWS, insert

from market import DAY, BookSnapshot, Instrument, OrderBook, Side, Trade
from market.timeframe import to_datetime
from storage import check
from storage.check_ledger import LEDGER
from storage.check_market import MARKET
from storage.check_money import MONEY
from storage.check_rule import Rule, ask
from storage.check_schema import missing_constraints, references
from storage.database import Connection
from storage.instruments import write_instruments
from storage.tables import metadata

BEGIN = MIDNIGHT - 2 * HOUR
END = MIDNIGHT + 6 * HOUR
NAME = {"exchange": EXCHANGE, "symbol": SYMBOL}
SCOPE = {"from": to_datetime(MIDNIGHT - DAY), "to": to_datetime(MIDNIGHT + DAY), "sample": 1}
RUN = UUID("00000000-0000-0000-0000-000000000001")


@pytest.fixture
def filled(connection: Connection) -> Connection:
    """A tape, a run and signals, as our own code leaves them."""
    fill(connection)
    return connection


def fill(connection: Connection) -> None:
    random = Random(1)
    names = {"exchange_symbol": "BTCUSDT", "base": "BTC", "quote": "USDT", "trade_ids_consecutive": True}
    write_instruments(connection, [Instrument(**NAME, **names)])
    times = range(BEGIN, END, 77 * SECOND)
    trades = [
        Trade(SYMBOL, at, str(number), number, random.uniform(90, 110), random.random() + 0.01, side)
        for number, at in enumerate(times, 1)
        for side in [random.choice(list(Side))]
    ]
    books = [book(random, at) for at in range(BEGIN, END, 59 * SECOND)]
    Streaming().run([Span(trades, END)], books).write(connection)
    _write_run(connection)
    insert(connection, "signals", **NAME)
    insert(connection, "signals", **NAME, revision=1)
    hole = {"from_timestamp": to_datetime(END + HOUR), "to_timestamp": to_datetime(END + 2 * HOUR)}
    insert(connection, "stream_gaps", **NAME, **hole)
    insert(connection, "alerts", status="sent", sent_timestamp=to_datetime(END))
    insert(connection, "sweeps", total_runs=1, finished_runs=1)
    connection.execute("UPDATE backtest_runs SET sweep_id = %s", [RUN])
    connection.execute("UPDATE sweeps SET best_backtest_id = %s", [RUN])


def book(random: Random, at: int) -> BookSnapshot:
    found = OrderBook()
    sides = [
        [(price, random.random() + 0.1) for price in prices] for prices in (range(80, 99), range(101, 130))
    ]
    found.replace(*sides)
    snapshot = found.snapshot(SYMBOL, at)
    assert snapshot is not None
    return snapshot


def _write_run(connection: Connection) -> None:
    """One position: 2 bought at 100, sold at 110, for fees of 1."""
    results = {
        "final_capital": 1019, "total_pnl": 19, "total_return_pct": 1.9, "total_trades": 1,
        "winning_trades": 1, "win_rate": 1, "total_fees": 1,
    }  # fmt: skip
    insert(connection, "backtest_runs", initial_capital=1000, **results)
    at = [to_datetime(BEGIN + hour * HOUR) for hour in range(3)]
    for when, cash, value, drawdown in (
        (at[0], 799.5, 200, 0.0005),
        (at[1], 799.5, 180, 0.0205),
        (at[2], 1019, 0, 0),
    ):
        row = {"timestamp": when, "equity": cash + value, "cash": cash, "position_value": value}
        insert(connection, "backtest_equity_curve", **row, drawdown=drawdown)
    whose = {"is_backtest": True, "backtest_id": RUN}
    amounts = {"entry_price": 100, "exit_price": 110, "quantity": 2, "gross_pnl": 20, "fees": 1, "pnl": 19}
    times = {"entry_timestamp": at[0], "exit_timestamp": at[2]}
    insert(connection, "positions", **NAME, **whose, **amounts, **times, pnl_pct=9.5, id=1)
    for side, price, when in (("buy", 100, at[0]), ("sell", 110, at[2])):
        row = {"timestamp": when, "side": side, "price": price, "quantity": 2, "fee": 0.5}
        insert(connection, "fills", **NAME, **row, backtest_id=RUN, position_id=1)


def broken(connection: Connection, rules: tuple[Rule, ...]) -> set[str]:
    return {rule.name for rule in rules if ask(connection, rule, SCOPE)[0]}


RULES = (*MARKET, *LEDGER, *MONEY)
HIGHER = [("5m", "1m"), ("15m", "5m"), ("1h", "15m"), ("4h", "1h"), ("1d", "4h")]
NEWEST = "SELECT max(timestamp) FROM candles WHERE is_closed"
A_CANDLE = f"WHERE interval = '1h' AND timestamp = ({NEWEST} AND interval = '1h' AND trade_count > 0)"
A_MINUTE = f"WHERE interval = '1m' AND timestamp = ({NEWEST} AND interval = '1m' AND trade_count = 0)"
NAMED = (
    "trades",
    "orderbook_snapshots",
    "candles",
    "cvd_snapshots",
    "stream_coverage",
    "stream_gaps",
    "signals",
    "positions",
    "fills",
)
BENT = {
    "trades stand at the same place of the tape": [
        """UPDATE trades SET timestamp = (SELECT min(timestamp) FROM trades), trade_seq = 1
        WHERE trade_seq = 2""",
    ],
    "changes of the CVD do not lead from point to point": [
        "UPDATE cvd_snapshots SET cvd_change = cvd_change + 1",
        "UPDATE cvd_snapshots SET anchor_timestamp = timestamp - interval '25 hours'",
        """DELETE FROM cvd_snapshots
        WHERE timestamp = (SELECT min(timestamp) FROM cvd_snapshots WHERE cvd_change <> 0)""",
    ],
    "candles without trades move": [f"UPDATE candles SET volume = 1, buy_volume = 1 {A_MINUTE}"],
    "candles reach beyond their range, or have another volume than was bought and sold": [
        f"UPDATE candles SET vwap = high + 1 {A_CANDLE}",
        f"UPDATE candles SET volume = volume / 2 {A_CANDLE}",
        f"ALTER TABLE candles DROP CONSTRAINT candles_range_check; UPDATE candles SET low = high {A_CANDLE}",
    ],
    "candles do not begin with their timeframe": [
        f"UPDATE candles SET timestamp = timestamp + interval '1 s' {A_CANDLE}",
    ],
    "candles of 1h are not what those of 15m give": [
        f"UPDATE candles SET high = high + 1 {A_CANDLE}",
        f"UPDATE candles SET trade_count = trade_count + 1 {A_CANDLE}",
        f"UPDATE candles SET cvd_close = cvd_close + 1 {A_CANDLE}",
        f"UPDATE candles SET volume = volume + 1, sell_volume = sell_volume + 1 {A_CANDLE}",
    ],
    "candles of 5m are not what those of 1m give": [
        "UPDATE candles SET high = high + 1 WHERE interval = '1m' AND trade_count > 0",
    ],
    "books are crossed, or their mid, spread or imbalance is not that of their best prices and volumes": [
        "UPDATE orderbook_snapshots SET mid = mid + 0.5",
        "UPDATE orderbook_snapshots SET imbalance = 0.5",
        "UPDATE orderbook_snapshots SET best_bid = 200, best_ask = 100, mid = 150, spread = -100",
        "UPDATE orderbook_snapshots SET spread_bps = spread_bps / 2",
    ],
    "bids do not fall from the best one, which the row names": [
        "UPDATE orderbook_snapshots SET bids_json = asks_json",
        "UPDATE orderbook_snapshots SET bids_json = bids_json - 0",
        "UPDATE orderbook_snapshots SET bid_volume = bid_volume * 2, ask_volume = ask_volume * 2",
        "UPDATE orderbook_snapshots SET depth = 1",
        "UPDATE orderbook_snapshots SET bids_json = '[]'",
    ],
    "asks do not rise from the best one, which the row names": [
        "UPDATE orderbook_snapshots SET asks_json = bids_json",
        """UPDATE orderbook_snapshots SET asks_json = jsonb_set(asks_json, '{3,1}', '0')""",
    ],
    "spans of coverage overlap": [
        """ALTER TABLE stream_coverage DROP CONSTRAINT stream_coverage_overlap_excl;
        INSERT INTO stream_coverage SELECT exchange, symbol, stream, from_timestamp + interval '1 h',
            to_timestamp, from_id, to_id, proof, origin, row_count FROM stream_coverage""",
    ],
    "an open hole lies inside coverage": [
        "UPDATE stream_gaps SET from_timestamp = from_timestamp - interval '1.5 h'",
    ],
    "a healed hole does not say when it was healed": ["UPDATE stream_gaps SET status = 'healed'"],
    "a revision of a signal has no revision before it": ["DELETE FROM signals WHERE revision = 0"],
    "an alert was sent at no time": ["UPDATE alerts SET sent_timestamp = NULL"],
    "profits of positions are not what their prices, quantities, fees and funding give": [
        "UPDATE positions SET pnl = pnl + 0.0000000001",
        "UPDATE positions SET gross_pnl = gross_pnl + 1, pnl = pnl + 1",
        "UPDATE positions SET side = 'short'",
        "UPDATE positions SET pnl_pct = 9.6",
        "UPDATE positions SET pnl = NULL",
        "UPDATE positions SET max_adverse = 1",
        "UPDATE positions SET funding = 1",
    ],
    "fills do not open and close their position, or have other fees or funding": [
        "UPDATE fills SET fee = 1",
        "UPDATE fills SET side = 'buy'",
        "UPDATE fills SET quantity = 3",
        "UPDATE fills SET backtest_id = NULL WHERE side = 'buy'",
        "UPDATE fills SET symbol = 'x'",
        "UPDATE fills SET funding = 1",
    ],
    "equity is not cash and the value of the position": [
        "UPDATE backtest_equity_curve SET cash = cash + 0.01"
    ],
    "drawdowns are not those of the equity": ["UPDATE backtest_equity_curve SET drawdown = 0.01"],
    "runs do not end with their last equity, or did not gain the difference": [
        "UPDATE backtest_runs SET final_capital = 1020",
        "UPDATE backtest_runs SET total_pnl = 20",
        "UPDATE backtest_runs SET total_return_pct = 2",
        "DELETE FROM backtest_equity_curve WHERE position_value = 0",
    ],
    "figures of runs are not those of their positions": [
        "UPDATE backtest_runs SET total_trades = 2",
        "UPDATE backtest_runs SET winning_trades = 0, win_rate = 0",
        "UPDATE backtest_runs SET total_fees = 2",
        "UPDATE backtest_runs SET win_rate = 0.5",
    ],
    "sweeps have finished more runs than they have, or name the best one of another": [
        "UPDATE sweeps SET finished_runs = 2",
        "UPDATE backtest_runs SET sweep_id = NULL",
    ],
    **{
        f"{table} name instruments that are not there": [f"UPDATE {table} SET symbol = 'NO/NE'"]
        for table in NAMED
    },
}
# They have no rows of their own here; one is inserted.
EMPTY = (
    "funding_rates",
    "indicators",
    "stream_state",
    "tape_revisions",
    "instrument_changes",
    "signal_state",
)


def test_every_rule_finds_what_it_is_for(filled: Connection) -> None:
    assert broken(filled, RULES) == set()
    alike = {f"candles of {high} are not what those of {low} give" for high, low in HIGHER}
    unbent = {f"{table} name instruments that are not there" for table in EMPTY}
    assert {rule.name for rule in RULES} == set(BENT) | unbent | alike
    for name, statements in BENT.items():
        for statement in statements:
            filled.execute("SAVEPOINT whole")
            for part in statement.split(";"):
                filled.execute(part.encode())
            assert name in broken(filled, RULES), statement
            filled.execute("ROLLBACK TO whole")


def test_rows_of_no_instrument(filled: Connection) -> None:
    state = {"interval": "1m", "strategy_name": "x", "config_hash": "x", "last_type": "BUY"}
    rows = {
        "signal_state": {
            **state,
            "candle_watermark": "now",
            "settled_watermark": "now",
            "revision_watermark": 0,
        },
        "instrument_changes": {"timestamp": to_datetime(BEGIN), "field": "tick_size"},
    }
    at = {"timestamp": to_datetime(BEGIN)}
    for table in EMPTY:
        filled.execute("SAVEPOINT whole")
        row = {**ROWS.get(table, rows.get(table)), "exchange": EXCHANGE, "symbol": "NO/NE"}
        row |= at if "timestamp" in metadata.tables[table].c else {}
        columns = sql.SQL(", ").join(map(sql.Identifier, row))
        places = sql.SQL(", ").join(sql.Placeholder() * len(row))
        filled.execute(
            sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(sql.Identifier(table), columns, places),
            list(row.values()),
        )
        assert broken(filled, RULES) == {f"{table} name instruments that are not there"}
        filled.execute("ROLLBACK TO whole")


def test_references_and_constraints(filled: Connection) -> None:
    rules = tuple(references())
    assert missing_constraints(filled) == []
    assert broken(filled, rules) == set()
    assert len(rules) == sum(len(table.foreign_keys) for table in metadata.sorted_tables) > 10
    filled.execute("ALTER TABLE fills DROP CONSTRAINT fills_position_id_fkey")
    filled.execute(
        "ALTER TABLE fills ADD CONSTRAINT fills_position_id_fkey"
        " FOREIGN KEY (position_id) REFERENCES positions NOT VALID"
    )
    assert missing_constraints(filled) == ["fills: fills_position_id_fkey"]
    filled.execute("ALTER TABLE fills DROP CONSTRAINT fills_position_id_fkey")
    filled.execute("UPDATE fills SET position_id = 99")
    assert broken(filled, rules) == {"fills name positions that are not there"}


def test_the_whole_database(filled: Connection) -> None:
    filled.commit()
    steps: list[tuple[int, int]] = []
    found = check.check(filled, progress=lambda done, total, _: steps.append((done, total)))
    assert (found.begin, found.end, found.broken) == (MIDNIGHT - DAY, MIDNIGHT + DAY, [])
    assert [done for done, _ in steps] == list(range(steps[-1][1]))

    # Older than a week before the newest: only when it is asked for.
    old = MIDNIGHT - 30 * DAY
    insert(filled, "candles", **NAME, timestamp=to_datetime(old), trade_count=0, vwap=None, volume=1.0)
    filled.commit()
    assert check.check(filled).broken == []
    for asked in ({"full": True}, {"begin": old}, {"begin": old, "end": old + DAY}):
        (one, other) = check.check(filled, **asked).broken
        assert {one.rule, other.rule} == {
            "candles without trades move",
            "candles reach beyond their range, or have another volume than was bought and sold",
        }
        assert one.count == 1
        assert one.examples[0].startswith(f"{EXCHANGE} {SYMBOL} ")
        assert one.fix == "deltatape repair"
    assert check.check(filled, begin=old + DAY).broken == []


def test_an_empty_database(connection: Connection) -> None:
    found = check.check(connection)
    assert (found.begin, found.end, found.broken) == (None, None, [])


def test_a_week_touches_only_its_chunks(filled: Connection) -> None:
    for week in range(1, 6):
        insert(filled, "candles", **NAME, timestamp=to_datetime(MIDNIGHT - week * 7 * DAY))
    for rule in MARKET:
        if "candles" in rule.name:
            plan = filled.execute(sql.SQL("EXPLAIN ") + rule.query, SCOPE).fetchall()
            chunks = set(re.findall(r"_hyper_\d+_\d+_chunk", str(plan)))
            assert 1 <= len(chunks) <= 2, (rule.name, chunks)
