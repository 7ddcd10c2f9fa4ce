from datetime import UTC, datetime, timedelta
from uuid import UUID

from storage.database import Connection
from storage.results import closed_by_period, closed_by_strategy, find_run, newest_runs, open_positions

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
RUN = UUID("0dd5c0de-0000-4000-8000-000000000001")
OTHER = UUID("0dd5c0de-ffff-4000-8000-000000000001")


def write_run(connection: Connection, run: UUID, at: datetime, sweep: UUID | None = None) -> None:
    connection.execute(
        """
        INSERT INTO backtest_runs (backtest_id, strategy_name, strategy_config, exchange, symbols, interval,
            market_type, start_date, end_date, initial_capital, status, data_fingerprint, code_version,
            machine, seed, run_timestamp, sweep_id)
        VALUES (%s, 'trend', '{}', 'kraken', ARRAY['BTC/USD'], '1h', 'spot', %s, %s, 10000, 'running', '', '',
            '', 0, %s, %s)
        """,
        (run, NOON, NOON, at, sweep),
    )


def write_closed(
    connection: Connection,
    at: datetime,
    pnl: float | None,
    strategy: str | None = "trend",
    run: UUID | None = None,
) -> None:
    connection.execute(
        """
        INSERT INTO positions (exchange, symbol, side, status, strategy_name, entry_timestamp, entry_price,
            quantity, exit_timestamp, exit_price, exit_reason, fees, pnl, is_backtest, backtest_id)
        VALUES ('kraken', 'BTC/USD', 'long', 'closed', %s, %s, 1, 1, %s, 1, 'signal', 0.5, %s, %s, %s)
        """,
        (strategy, at - timedelta(hours=1), at, pnl, run is not None, run),
    )


def test_profit_by_period_is_of_live_positions_alone(connection: Connection) -> None:
    write_run(connection, RUN, NOON)
    for hours, pnl in ((0, 10), (1, -4), (13, 5), (24 * 8, 100)):
        write_closed(connection, NOON - timedelta(hours=hours), pnl)
    write_closed(connection, NOON, 1000, run=RUN)
    write_closed(connection, NOON, 7, "other")
    days = closed_by_period(connection, "day", NOON - timedelta(days=2))
    assert [(each.begin.day, each.positions, each.winners, each.pnl, each.fees) for each in days] == [
        (4, 3, 2, 13, 1.5),
        (3, 1, 1, 5, 0.5),
    ]
    (month, *_) = closed_by_period(connection, "month", NOON - timedelta(days=90), "trend")
    assert (month.begin.month, month.pnl) == (5, 11)
    weeks = closed_by_period(connection, "week", NOON - timedelta(days=90))
    assert [each.begin.weekday() for each in weeks] == [0] * 3


def test_strategies_come_best_first(connection: Connection) -> None:
    for pnl in (10, -4, 0):
        write_closed(connection, NOON, pnl)
    write_closed(connection, NOON, 50, None)
    write_closed(connection, NOON - timedelta(days=9), 99)
    best, trend = closed_by_strategy(connection, NOON - timedelta(days=1))
    assert (best.name, best.pnl, best.lost) == ("by hand", 50, 0)
    assert (trend.positions, trend.winners, trend.won, trend.lost) == (3, 1, 10, 4)
    assert (trend.best, trend.worst, trend.fees) == (10, -4, 1.5)


def test_an_open_position_is_worth_the_last_price(connection: Connection) -> None:
    for side in ("long", "short"):
        connection.execute(
            "INSERT INTO positions (exchange, symbol, side, status, entry_timestamp, entry_price, quantity,"
            " fees, is_backtest) VALUES ('kraken', 'BTC/USD', %s, 'open', %s, 100, 2, 1, false)",
            (side, NOON),
        )
    assert [each.unrealised for each in open_positions(connection)] == [None, None]
    connection.execute(
        "INSERT INTO trades (timestamp, exchange, symbol, trade_id, trade_seq, price, size, cvd_at_trade)"
        " VALUES (%s, 'kraken', 'BTC/USD', '1', 1, 110, 1, 0)",
        [NOON],
    )
    assert [(each.side, each.unrealised) for each in open_positions(connection)] == [
        ("short", -21),
        ("long", 19),
    ]


def test_runs_are_listed_without_those_of_sweeps_and_found_by_their_beginning(connection: Connection) -> None:
    sweep = UUID(int=1)
    connection.execute(
        "INSERT INTO sweeps (id, name, definition, status, total_runs, started_timestamp)"
        " VALUES (%s, 's', '{}', 'running', 1, %s)",
        (sweep, NOON),
    )
    write_run(connection, RUN, NOON)
    write_run(connection, OTHER, NOON + timedelta(hours=1))
    write_run(connection, UUID(int=7), NOON + timedelta(hours=2), sweep)
    assert [each.backtest_id for each in newest_runs(connection, 9)] == [OTHER, RUN]
    assert [each.backtest_id for each in newest_runs(connection, 1, 1)] == [RUN]
    begin, end = UUID("0dd5c0de" + "0" * 24), UUID("0dd5c0de" + "f" * 24)
    assert len(find_run(connection, begin, end)) == 2
    (found,) = find_run(connection, begin, UUID("0dd5c0de" + "0" * 4 + "f" * 20))
    assert (found.backtest_id, found.initial_capital, found.total_pnl) == (RUN, 10000, None)
