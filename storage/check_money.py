"""Rules of backtests and positions: that the money adds up.

The tables hold numbers rounded to ten places, of doubles that have some sixteen digits: what is allowed is
that rounding, and a trillionth of what was added.
"""

from psycopg import sql

from storage.check_rule import Rule

_AGAIN = "run it again: deltatape backtest run; then delete this one: deltatape sql --write"
_RUN = sql.SQL("format('run %%s', backtest_id) AS example")
_POSITION = sql.SQL("format('position %%s', id) AS example")

MONEY = (
    Rule(
        "profits of positions are not what their prices, quantities, fees and funding give",
        sql.SQL("""
        SELECT {} FROM positions
        WHERE (status = 'closed' AND num_nulls(gross_pnl, pnl, pnl_pct) > 0)
            OR pnl <> gross_pnl - fees + funding
            OR abs(gross_pnl - quantity * CASE side
                    WHEN 'long' THEN exit_price - entry_price ELSE entry_price - exit_price END)
                > 1e-9 * (1 + quantity) + 1e-12 * quantity * (exit_price + entry_price)
            OR abs(pnl_pct - 100 * pnl / (quantity * entry_price))
                > 1e-9 * (1 + abs(pnl_pct)) + 1e-7 / (quantity * entry_price)
            OR max_favourable < 0 OR max_adverse > 0""").format(_POSITION),
        _AGAIN,
    ),
    Rule(
        "fills do not open and close their position, or have other fees or funding",
        sql.SQL("""
        SELECT format('position %%s', position.id) AS example
        FROM positions AS position JOIN fills AS fill ON fill.position_id = position.id
        WHERE position.status = 'closed'
        GROUP BY position.id
        HAVING sum(fill.quantity * CASE fill.side WHEN 'buy' THEN 1 ELSE -1 END) <> 0
            OR sum(fill.quantity) <> 2 * position.quantity
            OR abs(sum(fill.fee) - position.fees) > count(*) * 1e-9 + 1e-12 * position.fees
            OR sum(fill.funding) <> position.funding
            OR bool_or(fill.backtest_id IS DISTINCT FROM position.backtest_id)
            OR bool_or((fill.exchange, fill.symbol) <> (position.exchange, position.symbol))"""),
        _AGAIN,
    ),
    Rule(
        "equity is not cash and the value of the position",
        sql.SQL("""
        SELECT format('run %%s at %%s', backtest_id, timestamp) AS example FROM backtest_equity_curve
        WHERE abs(equity - cash - position_value) > 1e-9 + 1e-12 * (abs(cash) + abs(position_value))"""),
        _AGAIN,
    ),
    Rule(
        "drawdowns are not those of the equity",
        sql.SQL("""
        SELECT format('run %%s at %%s', backtest_id, timestamp) AS example FROM (
            SELECT backtest_id, timestamp, equity, drawdown, greatest(initial_capital,
                max(equity) OVER (PARTITION BY backtest_id ORDER BY timestamp)) AS peak
            FROM backtest_equity_curve JOIN backtest_runs USING (backtest_id)) AS point
        WHERE abs(drawdown - (1 - equity / peak)) > 1e-9"""),
        _AGAIN,
    ),
    Rule(
        "runs do not end with their last equity, or did not gain the difference",
        sql.SQL("""
        SELECT {} FROM backtest_runs LEFT JOIN LATERAL (
            SELECT equity FROM backtest_equity_curve AS point
            WHERE point.backtest_id = backtest_runs.backtest_id ORDER BY timestamp DESC LIMIT 1
        ) AS last ON true
        WHERE status = 'completed' AND (
            abs(final_capital - initial_capital - total_pnl) > 1e-9 + 1e-12 * abs(final_capital)
            OR abs(equity - final_capital) > 1e-9 + 1e-12 * abs(final_capital)
            OR abs(total_return_pct - 100 * total_pnl / initial_capital) > 1e-9 * (1 + abs(total_return_pct)))
        """).format(_RUN),
        _AGAIN,
    ),
    Rule(
        "figures of runs are not those of their positions",
        sql.SQL("""
        SELECT {} FROM backtest_runs JOIN (
            SELECT backtest_id, count(*) AS trades, sum(pnl) AS pnl, sum(fees) AS fees,
                sum(abs(pnl)) AS moved, count(*) FILTER (WHERE pnl > 1e-9) AS winners,
                count(*) FILTER (WHERE pnl > -1e-9) AS not_losers
            FROM positions WHERE status = 'closed' GROUP BY backtest_id) AS position USING (backtest_id)
        WHERE status = 'completed' AND (
            trades <> total_trades OR winning_trades + losing_trades > total_trades
            OR winning_trades NOT BETWEEN winners AND not_losers
            OR abs(fees - total_fees) > trades * 1e-9 + 1e-11 * total_fees
            OR abs(pnl - total_pnl) > trades * 1e-9 + 1e-11 * moved
            OR abs(win_rate - winning_trades::float8 / total_trades) > 1e-12)""").format(_RUN),
        _AGAIN,
    ),
    Rule(
        "sweeps have finished more runs than they have, or name the best one of another",
        sql.SQL("""
        SELECT format('sweep %%s', id) AS example FROM sweeps
        WHERE finished_runs > total_runs
            OR (best_backtest_id IS NOT NULL AND NOT EXISTS (
                SELECT FROM backtest_runs AS run
                WHERE run.backtest_id = best_backtest_id AND run.sweep_id = sweeps.id))"""),
        "run it again: deltatape sweep run; then delete this one: deltatape sql --write",
    ),
)
"""Every rule of them."""
