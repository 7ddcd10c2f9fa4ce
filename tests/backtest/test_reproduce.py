import numpy as np
import pytest
from tapes import random_frame, store_frame

from backtest import history
from backtest.doors import backtest
from backtest.report import html, of_result
from backtest.reproduce import reproduce, setup_of
from backtest.run import run
from backtest.store import save
from backtest.stored import columns_of, stored_columns, stored_report
from backtest.tables import equity_columns, fill_columns, position_columns
from market import MarketType, WrongUse

COUNT = 1_500


@pytest.fixture
def tape(connection):
    frame = random_frame(COUNT)
    store_frame(connection, frame, "binance", "ETH/BTC")
    return frame


def stored(connection, frame, strategy="ema_cross", **options):
    result = backtest(frame, strategy, exchange="binance", symbol="ETH/BTC", **options)
    row = history.run(connection, str(save(connection, result)))
    connection.commit()
    return result, row


def test_the_same_tape_gives_the_same_bits(connection, database, tape):
    options = {"fast": 5, "stop": 0.01, "market_type": "margin", "shorts": True, "capital": 5_000.0}
    result, row = stored(connection, tape, **options)
    again = reproduce(database, row)
    assert (again.is_same, again.causes, again.effects) == (True, [], [])
    assert again.result.metrics == result.metrics
    assert setup_of(row).account.market_type is MarketType.MARGIN


@pytest.mark.parametrize("name", ["grid", "dca"])
def test_a_plan_is_made_anew_too(name, connection, database, tape):
    _, row = stored(connection, tape, name, amount=300)
    assert reproduce(database, row).is_same
    assert row["engine_stats"]["fills_by_reason"]["policy"] >= 1


def test_what_differs_is_said(connection, database, tape):
    _, row = stored(connection, tape, fast=5)
    connection.execute("UPDATE candles SET open = low, close = high, low = low * 0.99 WHERE volume > 5")
    connection.execute("UPDATE backtest_runs SET code_version = '0.0.1+old'")
    connection.commit()
    again = reproduce(database, history.run(connection, str(row["backtest_id"])))
    assert not again.is_same
    assert [cause.what for cause in again.causes] == ["data", "code"]
    assert "return" in {effect.what for effect in again.effects}
    assert all(effect.stored != effect.now for effect in again.effects)


def test_another_default_is_a_cause(connection, database, tape):
    _, row = stored(connection, tape)
    row["strategy_config"]["policy"]["stop"] = 0.001
    again = reproduce(database, row)
    assert not again.is_same
    assert "fills" in {effect.what for effect in again.effects} or again.effects


def test_what_a_setup_did_not_know_of_yet_is_no_difference(connection, database, tape):
    _, row = stored(connection, tape)
    del row["strategy_config"]["account"]["queue"]
    again = reproduce(database, row)
    assert (again.is_same, again.causes) == (True, [])
    row["strategy_config"]["account"]["gone"] = 1
    assert [cause.what for cause in reproduce(database, row).causes] == ["setup"]


def test_what_cannot_be_made_anew_says_why(connection, database, tape):
    _, row = stored(connection, tape, np.arange(COUNT) % 50 == 0, stop=0.01)
    with pytest.raises(WrongUse, match="is not known by name"):
        reproduce(database, row)
    with pytest.raises(WrongUse, match="this run is failed"):
        reproduce(database, {**row, "status": "failed"})
    inside = {"timestamp": tape.timestamp, "price": tape.close, "size": tape.volume}
    for given in ({"trades": inside}, {"funding": {"timestamp": [], "rate": []}}):
        _, fed = stored(connection, tape, **given)
        with pytest.raises(WrongUse, match="fed with tables that were given"):
            reproduce(database, fed)
    connection.execute("DELETE FROM candles")
    connection.commit()
    with pytest.raises(WrongUse, match="are not stored any more"):
        reproduce(database, {**row, "strategy_name": "ema_cross"})


def test_what_is_stored_comes_back(connection, database, tape):
    result, row = stored(connection, tape, fast=5, stop=0.005)
    record, capital = result.record, result.setup.account.capital
    for table, columns in (
        ("fills", fill_columns(record, ["ETH/BTC"])),
        ("positions", position_columns(record, ["ETH/BTC"])),
        ("backtest_equity_curve", equity_columns(record, capital)),
    ):
        for name, values in stored_columns(connection, table, row).items():
            if values.dtype == np.float64:
                assert values == pytest.approx(columns[name], abs=1e-9, nan_ok=True), name
            else:
                assert values.tolist() == columns[name].tolist(), name
    days = columns_of(row["daily_results"])
    assert days["equity"].tolist() == record.daily.tolist()
    assert days["timestamp"].tolist() == (result.days["timestamp"].dt.timestamp("us")).to_list()
    months = columns_of(row["monthly_results"])
    assert months["timestamp"].tolist() == result.months["timestamp"].dt.timestamp("us").to_list()
    assert row["metrics"]["held"] == result.held._asdict()


def test_a_stored_report_is_that_of_the_run(connection, database, tape):
    result, row = stored(connection, tape, "trend", stop=0.005)
    live, kept = of_result(result), stored_report(connection, database, row)
    assert (kept.title, kept.figures, kept.missing) == (live.title, live.figures, live.missing)
    assert kept.sources == live.sources
    assert html(kept).count("<path") == html(live).count("<path")
    connection.execute("DELETE FROM candles")
    connection.commit()
    assert "are not stored any more" in html(stored_report(connection, database, row))


def test_a_sweeps_run_without_details_keeps_its_figures(connection, frame):
    row = history.run(connection, str(save(connection, run(frame, "ema_cross", exchange="a", symbol="B/C"))))
    assert len(row["monthly_results"]) == 1
    assert row["monthly_results"][0]["begin"] == "2026-01"
    assert {each["when"] for each in row["engine_stats"]["profit_by_reason"]} == {"entry", "exit"}
