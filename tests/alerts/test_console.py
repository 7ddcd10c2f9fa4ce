import io
from typing import Any

from rich.console import Console

from alerts.channels.console import ConsoleChannel
from storage.outbox import Alert


def alert(**changes: Any) -> Alert:
    values: dict[str, Any] = {
        "id": 7,
        "timestamp": 1_800_000_000_000_000,
        "alert_type": "signal_generated",
        "severity": "info",
        "title": "STRONG BUY BTC/USDT 1m on binance at 61,234.5",
        "message": "composite: score +0.62, confidence 62 (LOW)",
        "payload": {
            "signal_type": "STRONG_BUY",
            "reasons": ["RSI(14) = 27.3 < 30 [+0.20]"],
            "warnings": ["thin volume: 0.10 times"],
            "cvd": -12.5,
        },
        "channel": "console",
        "status": "pending",
        "attempts": 1,
        "is_possible_duplicate": False,
        "next_attempt_timestamp": None,
        "sent_timestamp": None,
        "dedupe_key": "k",
        "error": None,
        "signal_id": 3,
        "position_id": None,
    }
    return Alert(**(values | changes))


def printed(shown: Alert) -> str:
    file = io.StringIO()
    assert ConsoleChannel(Console(file=file, width=100)).send([shown]) is None
    return file.getvalue()


def test_all_that_an_alert_knows_is_printed() -> None:
    text = printed(alert())
    for words in (
        "STRONG BUY BTC/USDT 1m on binance at 61,234.5",
        "score +0.62",
        "• RSI(14) = 27.3 < 30 [+0.20]",
        "! thin volume",
        "CVD of the day -12.5",
        "2027-01-15T08:00:00Z",
        "alert 7",
    ):
        assert words in text
    assert "perhaps sent before" not in text


def test_a_possible_duplicate_says_so() -> None:
    assert "perhaps sent before" in printed(alert(is_possible_duplicate=True))


def test_an_alert_without_reasons_is_printed_too() -> None:
    text = printed(alert(alert_type="data_gap", severity="warning", title="[bold]gap", payload={}))
    assert "[bold]gap" in text


def test_nothing_that_comes_from_data_moves_the_terminal() -> None:
    nasty = "\x1b[2J\x9b31m\u202eabc\x07"
    shown = alert(title=nasty, message=nasty, payload={"reasons": [nasty], "warnings": [nasty]})
    text = printed(shown)
    assert text.count("abc") == 4
    assert not set(text) & set("\x1b\x9b\u202e\x07")


def test_a_terminal_that_is_gone_is_a_failure_to_try_again() -> None:
    class Gone(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError(32, "broken pipe")

    failure = ConsoleChannel(Console(file=Gone(), width=100)).send([alert()])
    assert failure is not None
    assert not failure.is_permanent
