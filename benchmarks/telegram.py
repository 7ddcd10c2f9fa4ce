"""What the Telegram bot answers from a tape that is a year old: each command, warm, as the longest of a few.

From the words to the finished text and picture; Telegram, which takes one message a second, is left out.
"""

from time import perf_counter

from alerts.telegram.answering import AWAY, BROKEN, Answers, Line
from alerts.telegram.commands import COMMANDS
from benchmarks import Figure, Figures
from benchmarks.databases import fresh_database
from benchmarks.latest import fill
from storage.database import Connection, connect

ROUNDS = 5
ALLOWED_SECONDS = 1.0

_WORDS = {
    "signal": "1",
    "why": "1",
    "cvd": "coinbase BTC/USD 1m",
    "book": "kraken BTC/USD",
    "gaps": "8760",
    "backtest": "00000000",
    "performance": "3660",
    "mute": "",
    "watch": "kraken BTC/USD",
}


def run() -> Figures:
    """The longest time of each command, the slowest first, beside the second that it may take."""
    with fresh_database() as url, connect(url, autocommit=True) as connection:
        fill(connection)
        _signals_and_holes(connection)
        answers = Answers(url, "dark", ("console",))
        taken = {name: _longest(answers, name) for name in COMMANDS}
    return [
        Figure(f"/{name} {_WORDS.get(name, '')}".strip(), 1e3 * seconds, "ms", 1e3 * ALLOWED_SECONDS)
        for name, seconds in sorted(taken.items(), key=lambda each: -each[1])
    ]


def _longest(answers: Answers, name: str) -> float:
    line = Line(name, tuple(_WORDS.get(name, "").split()))
    taken: list[float] = []
    for _ in range(1 + ROUNDS):
        began = perf_counter()
        reply = answers.answer(line, chat=1)
        taken.append(perf_counter() - began)
        if reply.text in (AWAY, BROKEN):
            raise RuntimeError(f"/{name}: {reply.text}")
    # The first one loads matplotlib and polars, which a bot does once.
    return max(taken[1:])


def _signals_and_holes(connection: Connection) -> None:
    """A signal each 15 minutes, and as many holes as a bad year has."""
    connection.execute("""
        INSERT INTO signals (timestamp, exchange, symbol, interval, strategy_name, config_hash, signal_type,
            confidence_score, confidence_level, score, price, reasons)
        SELECT t, 'coinbase', 'BTC/USD', '1h', 'trend', 'a', 'BUY', 60, 'MEDIUM', 0.5, 5,
            array_fill('EMA(20) crossed above EMA(50)'::text, ARRAY[5])
        FROM generate_series(now() - interval '365 days', now(), interval '15 minutes') AS t""")
    connection.execute("""
        INSERT INTO stream_gaps (exchange, symbol, stream, from_timestamp, to_timestamp, detected_timestamp,
            cause, status, proof)
        SELECT 'kraken', 'BTC/USD', 'trades', t, t + interval '10 seconds', t, 'connection_lost',
            'healed', 'rest'
        FROM generate_series(now() - interval '364 days', now(), interval '2 hours') AS t""")
    connection.execute("VACUUM ANALYZE")
