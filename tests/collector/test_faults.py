"""Nothing is lost: seeds of the fault harness, each with faults of the exchange and of our own side.

`python -m tests.soak.faults --seed 3` runs one of them alone, `make soak` two hundred.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.database import connect
from tests.soak.faults import SYMBOLS, begin_of, run_seed
from tests.soak.parts import Collector, Server, Simulator, eventually, private_server, rows
from tests.soak.proof import Evidence, complaints, truth_by_symbol

SEEDS = range(101, 109)
FOUND = {
    3: "ids that began anew while nobody was connected, and the covered time that was none",
    14: "a price of 1e300 that was taken for a trade",
}
"""Seeds that failed once, and what they showed."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with private_server() as found:
        yield found


@pytest.mark.parametrize("seed", [*SEEDS, *FOUND])
def test_whatever_fails_the_tape_is_the_truth_and_every_hole_is_on_record(
    seed: int, server: Server, tmp_path: Path
) -> None:
    outcome = run_seed(seed, server, tmp_path)
    sys.stdout.write(f"seed {seed}: {outcome.summary}\n")
    again = f"python -m tests.soak.faults --seed {seed}"
    assert not outcome.complaints, "\n".join([again, *outcome.complaints])


WRONGS = {
    "candle": "UPDATE candles SET volume = volume * 1.0000001 WHERE interval = '1d'",
    "CVD": """
        UPDATE cvd_snapshots SET cvd = cvd + 1e-9
        WHERE timestamp = (SELECT min(timestamp) FROM cvd_snapshots)""",
    "cvd_at_trade": "UPDATE trades SET cvd_at_trade = cvd_at_trade + 1e-9 WHERE symbol = 'BTC/USDT'",
    "coverage": "UPDATE stream_coverage SET from_timestamp = from_timestamp + '1 minute'::interval",
    "book": "UPDATE orderbook_snapshots SET bids_json = asks_json WHERE symbol = 'ETH/USDT'",
    "hole without a lost trade": """
        INSERT INTO stream_gaps (exchange, symbol, stream, from_timestamp, to_timestamp, from_id, to_id,
            missing_count, cause, status, proof)
        SELECT exchange, symbol, 'trades', timestamp, timestamp, trade_id, trade_id, 1, 'ids_missing',
            'healed', 'ids'
        FROM trades WHERE symbol = 'SOL/USDT' LIMIT 1""",
    "hole not healed": "UPDATE stream_gaps SET status = 'confirmed'",
    "trade missing": """
        DELETE FROM trades WHERE symbol = 'BTC/USDT' AND trade_id = (
            SELECT trade_id FROM trades WHERE symbol = 'BTC/USDT' ORDER BY timestamp OFFSET 9 LIMIT 1)""",
    "trade too much": """
        INSERT INTO trades SELECT timestamp + '1 microsecond'::interval, exchange, symbol, trade_id,
            trade_seq, fill_count, price, size, side, cvd_at_trade, received_timestamp
        FROM trades WHERE symbol = 'ETH/USDT' LIMIT 1""",
}


def test_the_proof_sees_every_kind_of_wrong(server: Server, tmp_path: Path) -> None:
    url = server.database("soak_proof")
    simulator = Simulator(
        tmp_path, symbols=SYMBOLS, seed=5, speed=60, start=begin_of(5), faults_until=0, every=60
    )
    collector = Collector(tmp_path, url, simulator, ",".join(SYMBOLS))
    try:
        collector.start()
        enough = "SELECT min(n) > 30 FROM (SELECT count(*) AS n FROM trades GROUP BY symbol) AS per"
        eventually(lambda: rows(url, enough) == [(True,)], 60, "some trades of each symbol")
        simulator.end_market()

        def look() -> list[str]:
            return list(
                complaints(url, Evidence(5, truth_by_symbol(simulator.truth()), simulator.log(), [], 0))
            )

        eventually(lambda: not look(), 30, "a whole tape")
        assert collector.stop() == 0
        for what, statement in WRONGS.items():
            before = look()
            with connect(url) as connection:
                assert connection.execute(statement.encode()).rowcount > 0
            assert any(what in text for text in look() if text not in before), what
    finally:
        if collector.is_running:
            collector.kill()
        simulator.stop()
