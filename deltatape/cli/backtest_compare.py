"""`deltatape backtest compare`: stored runs side by side."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from deltatape import settings
from deltatape.cli import output
from market import WrongUse

_FEWEST = 2


def compare(
    backtest_ids: Annotated[list[str], typer.Argument(help="Two runs or more, or their beginnings.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare runs side by side.

    First what differs in their setup, then their figures. Holding the market stands beside them where all
    ran on the same candles.
    """
    from backtest import history
    from storage.database import connect, require_schema

    if len(backtest_ids) < _FEWEST:
        raise WrongUse("name two runs or more; see: deltatape backtest list")
    with connect(settings.load().database()) as connection:
        require_schema(connection)
        rows = [history.run(connection, each) for each in backtest_ids]
    for row in rows:
        if row["status"] != "completed":
            raise WrongUse(f"run {str(row['backtest_id'])[:8]} is {row['status']}: it has no figures")
    if as_json:
        output.print_json(rows)
        return
    columns = ["", *(str(row["backtest_id"])[:8] for row in rows)]
    output.table("setup: what differs", columns, _setups(rows), "their setups are the same")
    output.table("figures", [*columns, *(["held"] if _held(rows) else [])], _figures(rows), empty="")


def _setups(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    described = [_setup(row) for row in rows]
    names = dict.fromkeys(name for each in described for name in each)
    table = [[name, *(each.get(name, "") for each in described)] for name in names]
    return [line for line in table if len(set(line[1:])) > 1]


def _setup(row: Mapping[str, Any]) -> dict[str, str]:
    config = row["strategy_config"]
    values = {**config["parameters"], **config["policy"], **config["account"]}
    return {
        "strategy": row["strategy_name"],
        "market": f"{row['exchange']} {' '.join(row['symbols'])} {row['interval']}",
        "from": f"{row['start_date']:%Y-%m-%d %H:%M}",
        "to": f"{row['end_date']:%Y-%m-%d %H:%M}",
        "candles": row["data_fingerprint"][:16],
        **{name: str(value) for name, value in values.items()},
        "code": row["code_version"],
        "machine": row["machine"],
        "fills and equity": row["fills_hash"][:16],
    }


def _held(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The figures of holding the market, where all runs had the same one and one of them kept them."""
    if len({row["data_fingerprint"] for row in rows}) > 1:
        return {}
    return next((row["metrics"]["held"] for row in rows if "held" in row["metrics"]), {})


def _figures(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    from backtest.labels import figures

    days = min(len(row["daily_returns"]) for row in rows)
    held = _held(rows)
    listed = [figures({**row["metrics"], **row}, held, days) for row in rows]
    names = dict.fromkeys(name for each in listed for name, _, _ in each)
    values = [{name: value for name, value, _ in each} for each in listed]
    others = {name: other for name, _, other in listed[0]}
    ends = [[others.get(name, "")] if held else [] for name in names]
    return [
        [name, *(each.get(name, "") for each in values), *end] for name, end in zip(names, ends, strict=True)
    ]
