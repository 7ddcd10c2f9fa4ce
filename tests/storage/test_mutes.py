from storage.database import Connection
from storage.mutes import mute, muted, unmute

NOW = 1_800_000_000_000_000


def test_a_channel_is_silent_until_its_time(connection: Connection) -> None:
    mute(connection, "phone", NOW + 10)
    mute(connection, "mail", NOW + 5)
    assert muted(connection, NOW) == {"mail": NOW + 5, "phone": NOW + 10}
    assert muted(connection, NOW + 5) == {"phone": NOW + 10}
    mute(connection, "phone", NOW + 1)
    assert muted(connection, NOW + 1) == {"mail": NOW + 5}


def test_a_channel_is_heard_again(connection: Connection) -> None:
    assert not unmute(connection, "phone")
    mute(connection, "phone", NOW + 10)
    assert unmute(connection, "phone")
    assert muted(connection, NOW) == {}
