import numpy as np
import pytest
from tapes import random_frame

from backtest import history, provenance
from backtest.account import Account
from backtest.run import run
from backtest.setup import setup
from backtest.store import Market, running, save
from market import MarketType, WrongUse
from storage import read

MARKET = Market("binance", "ETH/BTC")


def result_of(frame, strategy="ema_cross", parameters=None, account=None):
    return run(frame, strategy, parameters, account=account, exchange=MARKET.exchange, symbol=MARKET.symbol)


def test_a_run_is_stored_as_it_was(connection, real_frame):
    result = result_of(real_frame, "rsi_reversal", {"stop": 0.02, "target": 0.03})
    row = history.run(connection, str(save(connection, result)))
    assert row["status"] == "completed"
    assert (row["strategy_name"], row["exchange"], row["symbols"]) == ("rsi_reversal", "binance", ["ETH/BTC"])
    assert row["strategy_config"] == result.setup.config()
    assert row["sharpe_ratio"] == result.metrics.sharpe_ratio
    assert row["metrics"]["buy_and_hold_pct"] == result.metrics.buy_and_hold_pct
    assert float(row["final_capital"]) == pytest.approx(result.metrics.final_capital, abs=1e-9)
    assert row["daily_returns"] == result.returns.tolist()
    assert row["fills_hash"] == provenance.fills_hash(result.record)
    assert row["data_fingerprint"] == provenance.data_fingerprint(real_frame)
    assert row["engine_stats"]["fills"] == len(result.record.fills)
    assert row["code_version"]
    assert row["machine"]


def test_the_curve_is_stored_point_by_point(connection, database, real_frame):
    result = result_of(real_frame)
    run_id = save(connection, result)
    connection.commit()
    stored = read.equity(database, run_id)
    assert stored["timestamp"].equals(result.equity["timestamp"])
    for name in ("equity", "cash", "position_value"):
        assert np.allclose(stored[name], result.equity[name], rtol=0, atol=1e-9)
    assert stored["drawdown"].equals(result.equity["drawdown"])


def test_positions_add_up_in_the_tables(connection, real_frame):
    account = Account(market_type=MarketType.MARGIN)
    result = result_of(real_frame, "ema_cross", {"shorts": 1, "stop": 0.01, "target": 0.02}, account)
    run_id = save(connection, result)
    (count, wrong, off, stray) = connection.execute(
        """
        SELECT count(*), count(*) FILTER (WHERE pnl <> gross_pnl - fees),
               count(*) FILTER (WHERE abs(gross_pnl - (exit_price - entry_price) * quantity
                   * CASE side WHEN 'long' THEN 1 ELSE -1 END) > 1e-4),
               count(*) FILTER (WHERE status <> 'closed' OR NOT is_backtest OR exit_reason IS NULL)
        FROM positions WHERE backtest_id = %s
        """,
        (run_id,),
    ).fetchone()
    assert (count, wrong, off, stray) == (result.metrics.total_trades, 0, 0, 0)
    (unmatched,) = connection.execute(
        """
        SELECT count(*) FROM positions p WHERE backtest_id = %s AND NOT EXISTS (
            SELECT FROM fills f WHERE f.position_id = p.id AND f.timestamp = p.entry_timestamp
                AND f.price = p.entry_price AND f.quantity = p.quantity
                AND f.side = CASE p.side WHEN 'long' THEN 'buy' ELSE 'sell' END AND f.fee_asset = 'BTC')
        """,
        (run_id,),
    ).fetchone()
    assert unmatched == 0
    (fills,) = connection.execute(
        "SELECT count(*) FROM fills WHERE backtest_id = %s AND liquidity IN ('maker', 'taker')", (run_id,)
    ).fetchone()
    assert fills == len(result.record.fills)


def test_the_last_positions_in_order(connection, real_frame):
    result = result_of(real_frame)
    last = history.positions(connection, save(connection, result), 3)
    assert [row["entry_timestamp"] for row in last] == result.positions["entry_timestamp"][-3:].to_list()


def test_a_run_without_positions(connection):
    result = result_of(random_frame(10))
    row = history.run(connection, str(save(connection, result)))
    assert (row["total_trades"], row["sharpe_ratio"], row["status"]) == (0, 0.0, "completed")


def test_a_run_is_seen_while_it_works_and_completed_whole(connection, database, frame):
    setup_ = setup("ema_cross")
    with running(connection, setup_, frame, MARKET) as begun:
        assert read.runs(database)["status"].to_list() == ["running"]
        begun.complete(result_of(frame))
    assert read.runs(database)["status"].to_list() == ["completed"]


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError("broken"), "failed"), (KeyboardInterrupt(), "cancelled")]
)
def test_a_run_that_breaks_is_marked_and_leaves_nothing_else(connection, frame, error, status):
    def work():
        with running(connection, setup("ema_cross"), frame, MARKET) as begun:
            connection.execute(
                "INSERT INTO backtest_equity_curve VALUES (%s, now(), 1, 1, 0, 0)", (begun.run_id,)
            )
            raise error

    with pytest.raises(type(error)):
        work()
    ((row_status, message),) = connection.execute("SELECT status, error FROM backtest_runs").fetchall()
    assert row_status == status
    assert message == ("interrupted" if status == "cancelled" else "RuntimeError: broken")
    assert connection.execute("SELECT count(*) FROM backtest_equity_curve").fetchone() == (0,)


def test_a_result_without_a_market_cannot_be_stored(connection, frame):
    with pytest.raises(WrongUse, match="exchange and symbol"):
        save(connection, run(frame, "ema_cross"))
    assert connection.execute("SELECT count(*) FROM backtest_runs").fetchone() == (0,)


def test_runs_are_found_by_the_beginning_of_their_id(connection, frame):
    run_id = save(connection, result_of(frame))
    assert history.run(connection, str(run_id)[:8].upper())["backtest_id"] == run_id
    with pytest.raises(WrongUse, match="there is no 'zzzz'"):
        history.run(connection, "zzzz")
    with pytest.raises(WrongUse, match="there is no ''"):
        history.run(connection, "")


def test_an_ambiguous_beginning_is_said(connection, frame):
    for _ in range(17):
        run_id = save(connection, result_of(frame.part(0, 5)))
    first = {str(row["backtest_id"])[0] for row in history.runs(connection, 17)}
    counts = [
        digit
        for digit in first
        if sum(str(row["backtest_id"])[0] == digit for row in history.runs(connection, 17)) > 1
    ]
    with pytest.raises(WrongUse, match="more than one"):
        history.run(connection, counts[0])
    assert history.run(connection, str(run_id))["backtest_id"] == run_id


def test_listing_by_strategy(connection, frame):
    save(connection, result_of(frame))
    save(connection, result_of(frame, "rsi_reversal"))
    assert [row["strategy_name"] for row in history.runs(connection, 5, strategy="ema_cross")] == [
        "ema_cross"
    ]
    assert len(history.runs(connection, 5)) == 2


def test_the_same_run_again_has_the_same_hash(frame):
    one, two = result_of(frame, "rsi_reversal"), result_of(frame, "rsi_reversal")
    other = result_of(frame, "rsi_reversal", {"low": 31})
    assert provenance.fills_hash(one.record) == provenance.fills_hash(two.record)
    assert provenance.fills_hash(one.record) != provenance.fills_hash(other.record)


def test_other_candles_have_another_fingerprint(frame):
    before = provenance.data_fingerprint(frame)
    frame.volume[5] += 1.0
    assert provenance.data_fingerprint(frame) != before
