"""A run as files for other tools: one for each table, CSV or Parquet, and its figures as JSON."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

from backtest.files import write
from market.errors import WrongUse

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import polars as pl

    from backtest.result import Result
    from storage.database import Connection

FORMATS = ("parquet", "csv")


def export_result(result: Result, folder: Path, form: str) -> list[Path]:
    """Write fills, positions, equity, days, months, reasons and metrics; gives the files' paths.

    Args:
        result: a run.
        folder: made where it is missing; files of these names are replaced.
        form: parquet or csv.

    Raises:
        WrongUse: another format, or the folder cannot be written.
    """
    names = ("fills", "positions", "equity", "days", "months", "reasons")
    figures = {**result.metrics._asdict(), "held": result.held._asdict()}
    return export({name: getattr(result, name) for name in names}, figures, folder, form)


def export_stored(connection: Connection, row: Mapping[str, Any], folder: Path, form: str) -> list[Path]:
    """As `export_result`, of a stored run; of one that kept only its figures, these.

    Raises:
        WrongUse: another format, or the folder cannot be written.
    """
    from backtest.result import dataframe
    from backtest.stored import columns_of, stored_columns

    found = {
        "fills": stored_columns(connection, "fills", row),
        "positions": stored_columns(connection, "positions", row),
        "equity": stored_columns(connection, "backtest_equity_curve", row),
        "days": columns_of(row["daily_results"] or []),
        "months": columns_of(row["monthly_results"] or []),
        "reasons": columns_of(row["engine_stats"].get("profit_by_reason", [])),
    }
    is_whole = row["daily_results"] is not None
    kept = {name: dataframe(columns) for name, columns in found.items() if is_whole}
    return export(kept, dict(row), folder, form)


def export(tables: Mapping[str, pl.DataFrame], figures: Any, folder: Path, form: str) -> list[Path]:
    """Write each table as `name.format`, and `metrics.json`; gives the files' paths.

    Raises:
        WrongUse: another format, or the folder cannot be written.
    """
    import msgspec

    if form not in FORMATS:
        raise WrongUse(f"unknown format {form!r}: use {' or '.join(FORMATS)}")
    paths = [write(folder / f"{name}.{form}", _encoded(table, form)) for name, table in tables.items()]
    document = (
        msgspec.json.format(msgspec.json.Encoder(decimal_format="number").encode(figures), indent=2) + b"\n"
    )
    return [*paths, write(folder / "metrics.json", document)]


def _encoded(table: pl.DataFrame, form: str) -> bytes:
    data = BytesIO()
    if form == "csv":
        table.write_csv(data, datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ")
    else:
        table.write_parquet(data)
    return data.getvalue()
