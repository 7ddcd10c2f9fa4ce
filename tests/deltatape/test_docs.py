"""The pages say what the code says: verbs, exchanges, links, and every command that is shown."""

import re
import shlex
from pathlib import Path

from click.testing import CliRunner
from typer.main import get_command

from collector.exchanges import EXCHANGES, find
from deltatape.cli.app import VERBS, build

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])


def rows(page, header):
    """The rows of the page's table with this header, as lists of cells."""
    lines = (ROOT / page).read_text().splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith(f"| {header} |"))
    table = []
    for line in lines[begin + 2 :]:
        if not line.startswith("|"):
            return table
        table.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return table


def commands():
    """Every `deltatape …` of the pages' shell blocks."""
    for page in PAGES:
        for block in re.findall(r"```(?:sh|bash)\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["deltatape"]:
                    yield words[1:]


def test_the_table_of_verbs_has_each_once():
    named = [
        name
        for cell, _ in rows("README.md", "verb | what it does")
        for name in re.findall("`([a-z-]+)", cell)
    ]
    assert set(named) == set(VERBS) | {"indicators", "signals"}
    assert len(set(named)) == len(named)


def test_the_tables_of_exchanges_say_what_the_adapters_say():
    adapters = [find(known) for known in sorted(EXCHANGES)]
    short = rows("README.md", "id | exchange")
    assert short == [
        [
            f"`{a.exchange}`",
            a.facts.title,
            "ids" if a.has_consecutive_ids else "the connection",
            a.facts.history,
        ]
        for a in adapters
    ]
    full = rows("docs/exchanges.md", "id | trades | book | candles")
    assert full == [
        [f"`{a.exchange}`", a.facts.trades, a.facts.book, a.facts.candles, a.facts.history] for a in adapters
    ]


def test_every_command_that_is_shown_is_one():
    shown = list(commands())
    assert {verb for verb, *_ in shown} >= {"collect", "verify", "simulate", "backfill", "up", "import"}
    app = get_command(build({verb for verb, *_ in shown}))
    for words in shown:
        # Names of options are looked at before --help is obeyed.
        done = CliRunner().invoke(app, [*words, "--help"])
        assert done.exit_code == 0, (words, done.output)


def test_every_link_leads_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("https://") or (page.parent / target).exists(), (page.name, target)
