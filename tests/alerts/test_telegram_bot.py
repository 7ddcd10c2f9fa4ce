"""The bot through the real library: every command, who may ask, buttons, and data that would be markup."""

from seeds import RUN, SEEN, seed
from talking import ALICE, BOB, EVE, GROUP, talking

from alerts.telegram.commands import COMMANDS
from storage.database import connect
from storage.mutes import muted
from storage.watches import watched
from tests.alerts.bot_words import MOST_CAPTION, MOST_TEXT

ASKED = {
    "/start": "The newest signals.",
    "/help": "A picture of candles and CVD.",
    "/status": "BTC/USDT on okx",
    "/health": "1 stream is not live, 1 hole",
    "/signals 3": "STRONG BUY BTC/USDT 15m on binance at 50,000",
    "/signal 1": "confidence 61 (MEDIUM)",
    "/why 1": "rsi_14 28.25",
    "/price eth": "ETH/USDT on binance",
    "/cvd okx BTC/USDT 1m": "BTC/USDT 1m on okx",
    "/book okx btcusdt": "ask 50,001  1.5",
    "/gaps 4": "23 holes in 4 h, 1 open",
    "/positions": "10 open positions",
    "/profit": "in all: +34.50, 3 positions, 100% won",
    "/daily": "sum +23.00, 2 positions, 100% won",
    "/weekly": "Profit by week",
    "/monthly": "Profit by month",
    "/performance": "best +11.50, worst +11.50, fees 1.50",
    "/backtests": "0dd5c0de",
    f"/backtest {RUN}": "failed",
    "/alerts": "console: dead",
    "/mute console 30m": "Mute console for 30 min?",
    "/unmute": "Let phone be heard again?",
    "/watch": "This chat watches nothing",
    "/unwatch BTC": "this chat watches nothing; /watch BTC/USDT begins.",
    "/version": "deltatape",
}


def test_every_command_answers(database):
    assert {line.split()[0][1:] for line in ASKED} == set(COMMANDS)
    seed(database)
    with talking(database) as talk:
        # Each in a chat of its own: in one, an answer has to wait for its second.
        for chat, (line, expected) in enumerate(ASKED.items(), 1):
            message = talk.ask(line, chat=-chat)
            assert expected in message.plain, line
            assert message.chat == -chat
            assert (message.photo is not None) == line.startswith(("/cvd", "/signal ")), line


def test_text_from_data_is_shown_as_letters_and_cut(database):
    """The server refuses markup that does not parse, and what is too long."""
    seed(database)
    lines = ("/health", "/signals 50", "/signal 2", "/why 2", "/gaps", "/positions", "/performance")
    with talking(database) as talk:
        for chat, line in enumerate((*lines, "/backtests", f"/backtest {RUN}", "/alerts", "/mute </b>&"), 1):
            message = talk.ask(line, chat=-chat)
            assert (SEEN if "/mute" not in line else "</b>&") in message.plain, line
            assert "\u202e" not in message.plain
            most = MOST_CAPTION if message.photo else MOST_TEXT
            assert len(message.plain) <= most
            if line in ("/signal 2", "/why 2"):
                assert message.plain.splitlines()[-1].endswith("more lines")


WRONG = {
    "/cvd": "name an instrument, like /cvd BTC/USDT 15m. Usage: /cvd SYMBOL [timeframe]",
    "/cvd BTC/USDT 7y": "unknown timeframe '7y': write it like 1m, 5m, 2h, 1d or 1w.",
    "/price DOGE": "no trades of 'DOGE' on the tape; there are: binance BTC/USDT, binance ETH/USDT, okx",
    "/signal 99": "there is no signal 99: /signals lists them. Usage: /signal ID",
    "/signal 1; DROP TABLE signals": "give the id of one signal. Usage: /signal ID",
    "/signals many": "give one number, of signals a page, up to 50. Usage: /signals [n]",
    "/backtest 0dd5": "several runs begin with 0dd5: see /backtests. Usage: /backtest ID",
    "/backtest zz": "give four letters of a run's id or more: /backtests lists them.",
    "/mute fax 1h": "no trades of 'fax' on the tape; there are: binance BTC/USDT, binance ETH/USDT, okx"
    " BTC/USDT. Channels: phone, console. Kinds: signal_generated, position_opened,",
    "/mute 31d": "give one time up to 30d, like /mute 8h or /mute BTC/USDT 30m. Usage: /mute [what] [time]",
    "/mute BTC ETH": "'BTC' and 'ETH': name one, and mute the other by itself.",
    "/watch " + "x" * 80: "no trades of 'xxx",
    "/nothing@tape_bot": "There is no such command.",
    "/price@tape_bot " + "x" * 300: "There is no such command.",
}


def test_wrong_words_get_one_helpful_line(database):
    seed(database)
    with talking(database) as talk:
        for chat, (line, hint) in enumerate(WRONG.items(), 1):
            message = talk.ask(line, chat=-chat)
            assert hint in message.plain, line
            assert "\n" not in message.plain


def test_strangers_get_nothing_and_are_counted(database):
    with talking(database) as talk:
        mine = talk.ask("/version")
        for chat in (EVE, GROUP):
            talk.api.say("/health", EVE, chat)
        talk.api.press(mine, "=0:health", EVE)
        talk.api.say("/start", EVE + 1)
        assert "strangers: 4 attempts of 2 people, none answered" in talk.ask("/health", BOB).plain
        assert [message.chat for message in talk.api.messages.values()] == [ALICE, BOB]
        assert talk.api.called("answerCallbackQuery") == talk.api.called("editMessageText") == []


def test_a_group_is_answered_where_the_bot_is_meant(database):
    with talking(database) as talk:
        for text in ("hello", "/nothing", "/price@another_bot", "/price@another_bot 3"):
            talk.api.say(text, ALICE, GROUP)
        assert "deltatape" in talk.ask("/version@tape_bot", BOB, GROUP).plain
        sent = talk.api.called("sendMessage")
        assert len(sent) == 1
        # It is seen whom this answers.
        assert sent[0].params["reply_parameters"]["message_id"] > 0
        assert "/help" in talk.ask("hello").plain


def test_commands_are_listed_for_who_starts_it_alone(database):
    with talking(database) as talk:
        talk.ask("/start")
        talk.ask("/start", BOB, GROUP)
        scopes = [call.params["scope"] for call in talk.api.called("setMyCommands")]
    assert [(scope["type"], scope["chat_id"]) for scope in scopes] == [
        ("chat", ALICE),
        ("chat_member", GROUP),
    ]
    assert scopes[1]["user_id"] == BOB


def test_refreshing_edits_in_place(database):
    seed(database)
    with talking(database) as talk:
        message = talk.ask("/alerts")
        assert talk.press(message, "Refresh") == "Nothing new."
        with connect(database) as connection:
            connection.execute("UPDATE alerts SET title = 'news' WHERE dedupe_key = 'a8'")
        assert talk.press(message, "Refresh") is None
        assert message.plain.startswith("🟡 news")
        picture = talk.ask("/cvd binance BTC/USDT 15m", BOB)
        before = picture.photo
        talk.press(picture, "1m", BOB)
        assert picture.plain.startswith("BTC/USDT 1m")
        assert picture.photo not in (None, before)
        # A text has no room for a picture: it is said anew.
        talk.press_data(message, "=0:cvd binance BTC/USDT 15m")
        assert sorted(talk.api.messages)[-1] > picture.id
        assert message.edits == 1


def test_lists_have_pages(database):
    seed(database)
    with talking(database) as talk:
        message = talk.ask("/gaps 4")
        first = message.plain
        talk.press(message, "Older")
        assert "page 2" in message.plain
        talk.press(message, "Older")
        assert message.plain.count("missing") == 3
        assert [each["text"] for each in message.buttons[0]] == ["‹ Newer", "↻ Refresh"]
        talk.press(message, "Newer")
        talk.press(message, "Newer")
        assert message.plain == first
        choice = talk.ask("/book BTC", BOB)
        talk.press(choice, "okx", BOB)
        assert max(talk.api.messages.values(), key=lambda each: each.id).plain.startswith("BTC/USDT on okx")


def test_what_changes_anything_is_asked_first(database):
    seed(database)
    with talking(database) as talk, connect(database, autocommit=True) as connection:
        question = talk.ask("/mute 2h")
        assert muted(connection, 0) == []
        talk.press(question, "No")
        assert question.plain == "Nothing was changed."
        assert question.buttons == []
        question = talk.ask("/mute 2h", BOB)
        talk.press(question, "Yes", BOB)
        assert question.plain.startswith("🔇 phone is mute until")
        assert [each.channel for each in muted(connection, 0)] == ["phone"]
        assert "phone is mute until" in talk.ask("/status", BOB, GROUP - 1).plain
        for line, said, market in (
            ("/watch okx BTC/USDT", "This chat watches BTC/USDT on okx", [("okx", "BTC/USDT")]),
            ("/unwatch BTC", "This chat watches BTC/USDT on okx no more.", []),
        ):
            question = talk.ask(line, chat=GROUP)
            talk.press(question, "Yes", BOB)
            assert said in question.plain
            assert watched(connection, GROUP) == market
        question = talk.ask("/unmute", BOB, GROUP - 2)
        talk.press(question, "Yes")
        assert muted(connection, 0) == []


MUTES = {
    "/mute btc 2h": "BTC/USDT on phone",
    "/mute okx BTC/USDT": "okx BTC/USDT on phone",
    "/mute console Data_Gap": "data_gap on console",
    "/mute binance": "binance on phone",
    "/mute trend signal_generated eth 30m": "signal_generated ETH/USDT trend on phone",
}


def test_anything_that_rules_know_can_be_muted(database):
    seed(database)
    with talking(database) as talk, connect(database, autocommit=True) as connection:
        connection.execute(
            "UPDATE backtest_runs SET strategy_name = 'trend' WHERE symbols = ARRAY['BTC/USDT']"
        )
        for chat, (line, name) in enumerate(MUTES.items(), 1):
            question = talk.ask(line, chat=-chat)
            assert question.plain.startswith(f"Mute {name} for "), line
            talk.press(question, "Yes")
            assert question.plain.startswith(f"🔇 {name} is mute until "), line
        assert len(muted(connection, 0)) == len(MUTES)
        shown = talk.ask("/alerts", BOB).plain
        assert all(f"🔇 {name} is mute until " in shown for name in MUTES.values())
        question = talk.ask("/unmute okx btc", chat=-11)
        talk.press(question, "Yes")
        assert question.plain == "🔔 okx BTC/USDT on phone is heard again."
        question = talk.ask("/unmute", chat=-12)
        talk.press(question, "Yes")
        assert [each.channel for each in muted(connection, 0)] == ["console"]


def test_what_a_signal_is_of_is_muted_by_its_button(database):
    seed(database)
    with talking(database) as talk:
        talk.press(talk.ask("/signal 1"), "Mute")
        question = max(talk.api.messages.values(), key=lambda each: each.id)
        assert question.plain.startswith("Mute binance BTC/USDT on phone for 8 h?")


def test_mute_means_the_channel_that_comes_into_the_chat(database):
    with talking(database, own={BOB: "console"}) as talk:
        assert talk.ask("/mute", ALICE).plain.startswith("Mute phone for 8 h?")
        assert talk.ask("/mute", BOB).plain.startswith("Mute console for 8 h?")


def test_forged_and_old_buttons_change_nothing(database):
    with talking(database) as talk, connect(database, autocommit=True) as connection:
        message = talk.ask("/unmute")
        for data in ("!1:mute 2h", "!99999999999999:mute 2h", "=0:nothing", "+0:", "junk", "!0:version"):
            assert talk.press_data(message, data) == "This button is too old: ask again."
        assert muted(connection, 0) == []


def test_watched_instruments_are_shown_alone(database):
    seed(database)
    with talking(database) as talk:
        everything = talk.ask("/price").plain
        assert everything.count("/USDT on ") == 3
        talk.press(talk.ask("/watch ETH"), "Yes")
        assert talk.ask("/price").plain.count("/USDT on ") == 1
        assert talk.ask("/signals").plain.count("ETH/USDT") == 1


def test_a_database_that_is_away_is_one_clear_line():
    with talking("postgresql://127.0.0.1:1/none") as talk:
        assert (
            talk.ask("/status").plain
            == "The database does not answer just now. Nothing is lost: try again in a moment."
        )
