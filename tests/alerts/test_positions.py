"""Alerts of positions, from the rules to the chat: text, numbers and picture."""

from functools import partial

import pytest

from alerts.channels.telegram import TelegramChannel
from alerts.dispatcher import Dispatcher, Outlet
from alerts.pictures import alert_png
from storage.database import connect
from storage.outbox import AlertType, Event, list_alerts, write_alerts
from storage.routes import Routes, Rule
from storage.tape import write_candles
from tests.alerts.bot_api import TOKEN, bot_api
from tests.alerts.test_dispatcher import Clock
from tests.alerts.test_pictures import CLOSE, FILLS, candle

SHOWN = {
    AlertType.POSITION_OPENED: ("▶️", "info"),
    AlertType.POSITION_CLOSED: ("⏹", "info"),
    AlertType.STOP_LOSS: ("🛑", "warning"),
    AlertType.TAKE_PROFIT: ("🎯", "info"),
}
ROUTES = Routes(
    ("phone",),
    (
        Rule(types=FILLS, strategies=("trend",), symbols=("BTC/USDT",)),
        Rule(types=FILLS, is_sent=False),
    ),
)


def event(kind: AlertType, strategy: str = "trend") -> Event:
    return Event(
        alert_type=kind,
        timestamp=CLOSE - 1,
        title=f"{kind.replace('_', ' ')}: long BTC/USDT on binance at 101",
        message=f"{strategy}: 0.5 bought at 100, now 101: +0.50",
        dedupe_key=f"{kind}:{strategy}",
        payload={
            "exchange": "binance",
            "symbol": "BTC/USDT",
            "interval": "1m",
            "strategy": strategy,
            "side": "long",
        },
    )


@pytest.mark.parametrize("kind", FILLS)
def test_a_fill_comes_as_the_rules_say(database: str, kind: AlertType) -> None:
    with bot_api() as api, connect(database, autocommit=True) as connection:
        write_candles(connection, "binance", [candle(place) for place in range(20, 0, -1)])
        for strategy in ("trend", "other"):
            write_alerts(connection, ROUTES.rows(event(kind, strategy)))
        channel = TelegramChannel(TOKEN, 77, api.address, partial(alert_png, database, theme="dark"))
        outlet = Outlet(channel, follow_up=channel.add_picture)
        Dispatcher(connection, "phone", outlet, Clock()).send_due()
        channel.close()
        mark, severity = SHOWN[kind]
        other, sent = list_alerts(connection)
        assert (sent.status, sent.severity) == ("sent", severity)
        assert (other.status, other.error) == ("suppressed", "rule 2")
        (message,) = api.messages.values()
        assert message.plain.splitlines()[:2] == [f"{mark} {sent.title}", sent.message]
        assert message.photo is not None
