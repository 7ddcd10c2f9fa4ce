"""Every alert arrives through a channel that fails half of its calls, though dispatchers are killed."""

from storage.database import connect
from tests.alerts.bot_api import bot_api
from tests.alerts.flaky import Flaky, complaints, deliver, write

ALERTS = 40
KILLS = 2


def test_every_alert_arrives_and_duplicates_are_marked(database: str) -> None:
    with bot_api() as api, connect(database, autocommit=True) as connection:
        api.misbehave = Flaky(7)
        write(connection, ALERTS)
        deliver(database, api, ALERTS, KILLS, seed=7, patience=200)
        assert complaints(connection, api, ALERTS) == []
