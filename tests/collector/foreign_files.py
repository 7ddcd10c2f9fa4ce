"""What the tests of imports share: rows, files of them, and what the tape says afterwards."""

import gzip
import zipfile
from pathlib import Path

START = 1_735_689_600_000_000  # 2025-01-01
MINUTE = 60_000_000


def trade_rows(count, first=100, start=START, step=7_000_123):
    """(id, price, size, µs, is_buyer_maker)"""
    return [
        (first + n, f"{30_000 + n % 17}.{n % 10}", f"0.{n % 9 + 1}", start + n * step, n % 3 == 0)
        for n in range(count)
    ]


def binance_lines(rows, *, is_spot=True, unit=1):
    tail = ",True" if is_spot else ""
    return [
        f"{i},{price},{size},{float(price) * float(size):.8f},{time // unit},{str(maker).capitalize()}{tail}"
        if is_spot
        else f"{i},{price},{size},1.0,{time // unit},{str(maker).lower()}"
        for i, price, size, time, maker in rows
    ]


def write(path: Path, rows, header=None):
    text = "\n".join(([header] if header else []) + list(rows)) + "\n"
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(path.with_suffix(".csv").name, text)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def stored_trades(connection, exchange="binance"):
    return connection.execute(
        """
        SELECT trade_id, trade_seq, (extract(epoch FROM timestamp) * 1000000)::bigint, price, size, side,
            fill_count, (extract(epoch FROM received_timestamp) * 1000000)::bigint, symbol
        FROM trades WHERE exchange = %s ORDER BY symbol, timestamp, trade_seq
        """,
        (exchange,),
    ).fetchall()


def snapshot(connection):
    """Everything that an import may change."""
    return [
        connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4, 5").fetchall()
        for table in ("trades", "candles", "cvd_snapshots", "tape_revisions", "stream_gaps", "instruments")
    ] + [
        connection.execute(
            "SELECT exchange, symbol, stream, from_timestamp, to_timestamp, from_id, to_id, proof, origin,"
            " row_count FROM stream_coverage ORDER BY 1, 2, 3, 4"
        ).fetchall()
    ]


def ids(coverage):
    return [(span.from_id, span.to_id, span.proof, span.origin, span.row_count) for span in coverage]
