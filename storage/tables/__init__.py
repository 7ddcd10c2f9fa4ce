"""Every table of the research core, as SQLAlchemy Core tables over one `metadata`.

The migrations are what makes them; a test proves that both say the same.
"""

from storage.tables.backtests import (
    backtest_equity_curve,
    backtest_runs,
    fills,
    positions,
    sweeps,
)
from storage.tables.columns import metadata
from storage.tables.ledger import (
    past_days,
    rejected_messages,
    stream_coverage,
    stream_gaps,
    stream_state,
    tape_revisions,
)
from storage.tables.market import (
    candles,
    cvd_snapshots,
    funding_rates,
    instrument_changes,
    instruments,
    orderbook_snapshots,
    trades,
)
from storage.tables.signals import (
    calibrations,
    indicators,
    signal_outcomes,
    signal_state,
    signals,
)
from storage.tables.system import (
    alert_mutes,
    alerts,
    channel_calls,
    chat_watches,
    compressions,
    system_metrics,
)

__all__ = [
    "alert_mutes",
    "alerts",
    "backtest_equity_curve",
    "backtest_runs",
    "calibrations",
    "candles",
    "channel_calls",
    "chat_watches",
    "compressions",
    "cvd_snapshots",
    "fills",
    "funding_rates",
    "indicators",
    "instrument_changes",
    "instruments",
    "metadata",
    "orderbook_snapshots",
    "past_days",
    "positions",
    "rejected_messages",
    "signal_outcomes",
    "signal_state",
    "signals",
    "stream_coverage",
    "stream_gaps",
    "stream_state",
    "sweeps",
    "system_metrics",
    "tape_revisions",
    "trades",
]
