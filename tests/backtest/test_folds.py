import pytest
from tapes import random_frame, store_frame

from backtest import grid, history, provenance
from backtest.feeds import Source
from backtest.folds import walk_forward
from backtest.run import run
from backtest.store import Market
from backtest.sweep import sweep
from market import WrongUse

MARKET = Market("binance", "ETH/BTC")
AXES = {"fast": [5, 10, 20], "slow": [30, 40]}


def walked(connection, frame, folds, **changes):
    setups, _ = grid.setups("ema_cross", AXES)
    definition = {"strategy": "ema_cross", "grid": AXES}
    return sweep(connection, Source("", frame), setups, MARKET, definition=definition, folds=folds, **changes)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_every_candle_but_the_first_spans_judges_once(frame, count):
    steps = walk_forward(Source("", frame), count)
    assert [step.number for step in steps] == list(range(1, count + 1))
    judged = [time for step in steps for time in step.out_of_sample.frame.timestamp.tolist()]
    assert judged == frame.timestamp[len(frame) // (count + 1) :].tolist()
    for step in steps:
        decided = step.in_sample.frame.timestamp.tolist()
        assert decided == frame.timestamp[: len(decided)].tolist()
        assert step.in_sample.frame.close_time[-1] <= step.out_of_sample.frame.timestamp[0]


@pytest.mark.parametrize("count", [0, -1, 101])
def test_folds_that_make_no_sense_are_refused(frame, count):
    with pytest.raises(WrongUse, match="folds make no sense"):
        walk_forward(Source("", frame), count)


def test_too_few_candles_are_refused():
    with pytest.raises(WrongUse, match="39 candles are too few for 3 folds: at least 40"):
        walk_forward(Source("", random_frame(39)), 3)
    assert len(walk_forward(Source("", random_frame(40)), 3)) == 3


def test_the_best_in_sample_is_judged_out_of_sample(connection, frame):
    seen = []
    done = walked(connection, frame, 3, keep=2, progress=seen.append)
    assert (done.total, seen[-1]) == (3 * 7, 3 * 7)
    assert seen == sorted(seen)
    row = history.sweep(connection, str(done.sweep_id))
    assert (row["status"], row["finished_runs"], row["total_runs"]) == ("completed", 21, 21)
    told = row["statistics"]["folds"]
    whole = 1.0
    for step, fold in zip(walk_forward(Source("", frame), 3), told, strict=True):
        setups, _ = grid.setups("ema_cross", AXES)
        decides = step.in_sample.frame
        sharpes = [run(decides, "ema_cross", each.values).metrics.sharpe_ratio for each in setups]
        assert fold["in_sample"] == max(sharpes)
        best = setups[sharpes.index(max(sharpes))]
        after = run(step.out_of_sample.frame, "ema_cross", best.values)
        assert fold["out_of_sample"] == after.metrics.sharpe_ratio
        assert fold["return_pct"] == after.metrics.total_return_pct
        whole *= 1.0 + fold["return_pct"] / 100.0
        (stored,) = connection.execute(
            "SELECT fills_hash FROM backtest_runs WHERE backtest_id = %s", (fold["out_of_sample_id"],)
        ).fetchone()
        assert stored == provenance.fills_hash(after.record)
    assert row["statistics"]["out_of_sample_return_pct"] == 100.0 * (whole - 1.0)


def test_runs_say_their_split_and_fold(connection, frame):
    done = walked(connection, frame, 2, keep=1)
    counts = connection.execute(
        "SELECT fold, split::text, count(*), min(start_date), max(end_date) FROM backtest_runs"
        " WHERE sweep_id = %s GROUP BY fold, split ORDER BY fold, split::text",
        (done.sweep_id,),
    ).fetchall()
    assert [row[:3] for row in counts] == [
        (1, "in_sample", 6),
        (1, "out_of_sample", 1),
        (2, "in_sample", 6),
        (2, "out_of_sample", 1),
    ]
    for chosen, judged in ((counts[0], counts[1]), (counts[2], counts[3])):
        assert chosen[4] == judged[3]
    ranked = history.best(connection, done.sweep_id, "sharpe_ratio", 10)
    assert len(ranked) == 2
    assert ranked[0]["backtest_id"] == done.best[0].backtest_id
    kept = connection.execute("SELECT DISTINCT backtest_id FROM fills").fetchall()
    assert kept == [(done.best[0].backtest_id,)]


def test_a_run_of_a_fold_is_made_anew_over_its_own_span(connection, database, frame):
    from backtest.reproduce import reproduce

    store_frame(connection, frame, MARKET.exchange, MARKET.symbol)
    done = walked(connection, frame, 2)
    for split in ("in_sample", "out_of_sample"):
        (run_id,) = connection.execute(
            "SELECT backtest_id FROM backtest_runs WHERE sweep_id = %s AND split::text = %s AND fold = 2"
            " ORDER BY backtest_id LIMIT 1",
            (done.sweep_id, split),
        ).fetchone()
        assert reproduce(database, history.run(connection, str(run_id))).is_same
