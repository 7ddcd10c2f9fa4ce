import threading
from dataclasses import replace

import pytest

from backtest import grid, history, provenance
from backtest.feeds import Source
from backtest.outcomes import ran, results
from backtest.run import run
from backtest.store import Market
from backtest.strategies import find
from backtest.sweep import sweep
from market import WrongUse
from storage import read

MARKET = Market("binance", "ETH/BTC")
AXES = {"fast": [5, 10, 20], "slow": [20, 40, 80]}
DEFINITION = {"strategy": "ema_cross", "grid": AXES}


def swept(connection, frame, **changes):
    setups, left_out = grid.setups("ema_cross", AXES)
    options = {"definition": DEFINITION, "left_out": left_out, "keep": 2, **changes}
    return sweep(connection, Source("", frame), setups, MARKET, **options)


def test_every_combination_is_a_run_like_one_by_itself(connection, real_frame):
    done = swept(connection, real_frame)
    assert (done.total, done.left_out) == (8, 1)
    rows = connection.execute(
        "SELECT strategy_config -> 'parameters', sharpe_ratio, fills_hash, daily_returns, status,"
        " data_fingerprint FROM backtest_runs WHERE sweep_id = %s",
        (done.sweep_id,),
    ).fetchall()
    assert len(rows) == 8
    for parameters, sharpe, fills_hash, returns, status, fingerprint in rows:
        alone = run(real_frame, "ema_cross", parameters)
        assert sharpe == alone.metrics.sharpe_ratio
        assert fills_hash == provenance.fills_hash(alone.record)
        assert returns == alone.returns.tolist()
        assert (status, fingerprint) == ("completed", provenance.data_fingerprint(real_frame))


def test_only_the_best_keep_everything(connection, database, real_frame):
    done = swept(connection, real_frame)
    sharpes = [best.metrics.sharpe_ratio for best in done.best]
    ranked = history.best(connection, done.sweep_id, "sharpe_ratio", 10)
    assert [row["backtest_id"] for row in ranked[:2]] == [best.backtest_id for best in done.best]
    assert [row["sharpe_ratio"] for row in ranked[:2]] == sharpes
    with_fills = connection.execute("SELECT count(DISTINCT backtest_id) FROM fills").fetchone()
    assert with_fills == (2,)
    assert read.equity(database, done.best[0].backtest_id).height > len(real_frame) - 1
    assert read.equity(database, ranked[-1]["backtest_id"]).is_empty()
    row = history.sweep(connection, str(done.sweep_id))
    assert (row["status"], row["finished_runs"], row["total_runs"]) == ("completed", 8, 8)
    assert row["best_backtest_id"] == done.best[0].backtest_id
    assert row["finished_timestamp"] >= row["started_timestamp"]


def test_all_can_be_kept_though_few_are_stored_at_once(connection, frame):
    done = swept(connection, frame, keep=8)
    sharpes = [best.metrics.sharpe_ratio for best in done.best]
    assert sharpes == sorted(sharpes, reverse=True)
    kept = connection.execute("SELECT DISTINCT backtest_id FROM backtest_equity_curve").fetchall()
    assert {run_id for (run_id,) in kept} == {best.backtest_id for best in done.best}
    assert len(kept) == 8


def test_rank_by_another_metric(connection, real_frame):
    done = swept(connection, real_frame, rank_by="buy_and_hold_pct")
    # All equal: the earliest combinations win.
    assert [best.setup.values["slow"] for best in done.best] == [20, 40]
    ranked = history.best(connection, done.sweep_id, "intraday_drawdown", 10)
    assert len(ranked) == 8


def test_an_unknown_rank_is_refused_before_anything_is_stored(connection, frame):
    with pytest.raises(WrongUse, match="cannot rank by 'luck'"):
        swept(connection, frame, rank_by="luck")
    assert connection.execute("SELECT count(*) FROM sweeps").fetchone() == (0,)


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "cancelled"), (RuntimeError, "failed")])
def test_an_interrupted_sweep_is_marked(connection, frame, error, status):
    def interrupt(_count):
        raise error

    with pytest.raises(error):
        swept(connection, frame, progress=interrupt)
    row = history.sweeps(connection, 1)[0]
    assert row["status"] == status
    (stored,) = connection.execute("SELECT count(*) FROM backtest_runs").fetchone()
    assert row["finished_runs"] == stored
    assert row["best_backtest_id"] is None


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_outcomes_come_in_order_whatever_the_threads(frame, threads):
    setups, _ = grid.setups("ema_cross", {"fast": range(3, 40), "slow": [50, 60]})
    found = [outcome for part in results(Source("", frame), setups, threads=threads) for outcome in part]
    for each, outcome in zip(setups, found, strict=True):
        alone = run(frame, "ema_cross", each.values)
        assert outcome.metrics == alone.metrics
        assert outcome.fills_hash == provenance.fills_hash(alone.record)
        assert outcome.returns.tolist() == alone.returns.tolist()
        assert outcome.fills_by_reason == alone.counts("reason")


def test_signals_are_found_once_for_policies_that_trade_the_same_ones(frame):
    asked = []

    def signals(candles, values):
        asked.append(values["fast"])
        return find("ema_cross").signals(candles, values)

    strategy = replace(find("ema_cross"), signals=signals, prepare=None)
    setups, _ = grid.setups(strategy, {"fast": [5, 8], "stop": [0.0, 0.01, 0.02]})
    hashes = [outcome.fills_hash for outcome in ran(Source("", frame), setups)]
    assert asked == [5, 8]
    alone = [run(frame, "ema_cross", {**each.values, "stop": each.policy.stop}) for each in setups]
    assert hashes == [provenance.fills_hash(result.record) for result in alone]
    assert len(set(hashes)) == 6


def test_leaving_early_ends_the_threads(frame):
    setups, _ = grid.setups("ema_cross", {"fast": range(3, 200), "slow": range(300, 310)})
    running = results(Source("", frame), setups, threads=2)
    # The first one comes before there are threads.
    assert [len(next(running)) for _ in range(2)] == [1, 8]
    running.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sweep")]


def test_live_strategies_sweep_too(connection, real_frame):
    axes = {"ema_trend.fast": [5, 9]}
    setups, left_out = grid.setups("trend", axes)
    definition = {"strategy": "trend", "grid": axes}
    done = sweep(connection, Source("", real_frame), setups, MARKET, definition=definition, left_out=left_out)
    assert {best.setup.values["ema_trend.fast"] for best in done.best} == {5, 9}
