"""`deltatape import`, as users run it."""

import json


def archive(path, count=5):
    rows = [f"{n},1.5,2,3,{1_735_689_600_000 + n},True,True" for n in range(1, count + 1)]
    path.write_text("\n".join(rows) + "\n")
    return path


def test_files_are_imported_and_again_change_nothing(cli, connection, tmp_path):
    path = archive(tmp_path / "BTCUSDT-trades-2025-01-01.csv")
    done = cli("import", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "new trades" in done.stdout
    again = cli("import", str(path), "--json")
    assert again.returncode == 0
    assert json.loads(again.stdout) == {
        "files": 1,
        "rows": 5,
        "new_trades": 0,
        "new_candles": 0,
        "known": 5,
        "holes": 0,
        "refused": 0,
        "refused_rows": [],
    }
    assert connection.execute("SELECT count(*) FROM trades").fetchone() == (5,)


def test_refused_rows_are_told_and_the_rest_is_stored(cli, connection, tmp_path):
    path = archive(tmp_path / "BTCUSDT-trades-2025-01-01.csv")
    with path.open("a") as file:
        file.writelines("9,none,2,3,1735689600009,True,True\n" for _ in range(12))
    done = cli("import", str(path))
    assert done.returncode == 1
    assert "refused: BTCUSDT-trades-2025-01-01.csv line 6: not a price: none" in done.stderr
    assert done.stderr.splitlines()[-1] == "refused: 2 more"
    assert connection.execute("SELECT count(*) FROM trades").fetchone() == (5,)


def test_columns_are_named(cli, connection, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("px,at,n\n1.5,1735689600,2\n")
    options = ("--exchange", "bitfinex", "--symbol", "BTC/USD")
    asked = cli("import", str(path), *options)
    assert asked.returncode == 2
    assert "which column is the timestamp? Say --column timestamp=NAME; it has px, at, n" in asked.stderr
    named = ("--column", "timestamp=at:s", "--column", "price=px", "--column", "size=n")
    assert cli("import", str(path), *options, *named).returncode == 0
    assert connection.execute("SELECT exchange, symbol, price FROM trades").fetchall() == [
        ("bitfinex", "BTC/USD", 1.5)
    ]


def test_wrong_use_is_one_line(cli, tmp_path):
    for arguments, words in (
        (["nothing.csv"], "no such file: nothing.csv"),
        (["nothing.csv", "--format", "xls"], "unknown format 'xls'"),
        (["nothing.csv", "--timeframe", "7m"], "unknown timeframe '7m'"),
        (["nothing.csv", "--column", "colour=x"], "write FIELD=COLUMN"),
    ):
        done = cli("import", *arguments)
        assert done.returncode == 2
        assert words in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_help_shows_an_example(cli):
    done = cli("import", "--help")
    assert done.returncode == 0
    assert "deltatape import BTCUSDT-trades" in done.stdout
