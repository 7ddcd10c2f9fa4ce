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

    from backtest.run import Result

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
