"""The bot itself: updates in, answers out, through python-telegram-bot."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from typing import TYPE_CHECKING

from telegram import (
    BotCommand,
    BotCommandScopeChat,
    BotCommandScopeChatMember,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    InputMediaPhoto,
    LinkPreviewOptions,
    Message,
    ReplyParameters,
    Update,
)
from telegram.constants import ChatType, ParseMode
from telegram.error import BadRequest, TelegramError

from alerts.telegram.answering import CANCEL, CONFIRM_SECONDS, Answers, Line
from alerts.telegram.commands import COMMANDS
from alerts.telegram.markup import MOST_CAPTION, MOST_TEXT, Reply, cut
from alerts.telegram.words import duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from telegram import Bot, CallbackQuery

    from alerts.telegram.access import Access

log = logging.getLogger(__name__)

UPDATES = ("message", "callback_query")
"""The kinds of updates that are asked for; an edited message is not a new question."""
_HINT = "Write a command; /help lists them."
_OLD = "This button is too old: ask again."
_PRESSED = re.compile(r"([=+])(\d{1,6}):(.+)")
_CONFIRMED = re.compile(r"!(\d{1,12}):(.+)")


class TelegramBot:
    """Answers updates.

    Args:
        answers: what is said.
        access: who may ask.
        clock: seconds since 1970, for how long a question may be answered.
    """

    def __init__(self, answers: Answers, access: Access, clock: Callable[[], float] = time.time) -> None:
        self.answered = 0
        self.failed = 0
        self._answers = answers
        self._access = access
        self._clock = clock
        self._began = clock()

    async def handle(self, update: Update, bot: Bot) -> None:
        """Answer one update; a failure is logged, and ends nothing."""
        user = update.effective_user
        if not self._access.is_allowed(user.id if user else None):
            return
        try:
            if update.callback_query is not None:
                await self._pressed(update.callback_query, bot)
            elif update.message is not None and update.message.text:
                await self._written(update.message, update.message.text, bot)
        except TelegramError as error:
            self.failed += 1
            log.warning("an answer did not reach its chat: %s", error)

    def notes(self) -> list[str]:
        """How the bot is, a line each."""
        running = duration(self._clock() - self._began)
        return [
            f"bot: up for {running}, {self.answered:,} answered, {self.failed:,} failed",
            self._access.note(),
        ]

    # What was written

    async def _written(self, message: Message, text: str, bot: Bot) -> None:
        is_private = message.chat.type == ChatType.PRIVATE
        addressed, _, name = text.split()[0].partition("@")
        if not addressed.startswith("/") or (name and name.lower() != bot.username.lower()):
            # In a group people talk to each other.
            if is_private and not name:
                await self._say(bot, message, Reply(_HINT))
            return
        line = Line.parse(" ".join([addressed, *text.split()[1:]]))
        if line is None or line.name not in COMMANDS:
            if is_private or name:
                await self._say(bot, message, Reply(f"There is no such command. {_HINT}"))
            return
        if line.name == "start":
            await self._offer_commands(bot, message)
        await self._say(bot, message, await self._answer(line, message.chat.id))

    async def _answer(self, line: Line, chat: int, page: int = 0) -> Reply:
        return await asyncio.to_thread(self._answers.answer, line, chat, page, self.notes())

    async def _offer_commands(self, bot: Bot, message: Message) -> None:
        """List the commands for who asked alone: strangers are shown none."""
        chat, user = message.chat, message.from_user
        if chat.type == ChatType.PRIVATE:
            scope: BotCommandScopeChat | BotCommandScopeChatMember = BotCommandScopeChat(chat.id)
        elif user is not None:
            scope = BotCommandScopeChatMember(chat.id, user.id)
        else:
            return
        listed = [BotCommand(name, command.help) for name, command in COMMANDS.items()]
        try:
            await bot.set_my_commands(listed, scope)
        except TelegramError as error:
            log.info("the list of commands was not taken: %s", error)

    # What was pressed

    async def _pressed(self, query: CallbackQuery, bot: Bot) -> None:
        message, data = query.message, query.data or ""
        if not isinstance(message, Message):
            await self._close(query, _OLD)
        elif data == CANCEL:
            await self._edit(bot, message, Reply("Nothing was changed."))
            await self._close(query)
        elif found := _CONFIRMED.fullmatch(data):
            await self._confirmed(query, message, int(found[1]), Line.parse(found[2]), bot)
        elif found := _PRESSED.fullmatch(data):
            await self._asked_again(query, message, found[1] == "=", int(found[2]), Line.parse(found[3]), bot)
        else:
            await self._close(query, _OLD)

    async def _confirmed(
        self, query: CallbackQuery, message: Message, asked_at: int, line: Line | None, bot: Bot
    ) -> None:
        command = COMMANDS.get(line.name) if line else None
        is_late = self._clock() - asked_at > CONFIRM_SECONDS
        if line is None or command is None or command.change is None or is_late:
            await self._edit(bot, message, Reply("Nothing was changed: the question is too old."))
            await self._close(query, _OLD)
            return
        reply = await asyncio.to_thread(self._answers.change, line, message.chat.id)
        await self._edit(bot, message, reply)
        await self._close(query)

    async def _asked_again(
        self, query: CallbackQuery, message: Message, in_place: bool, page: int, line: Line | None, bot: Bot
    ) -> None:
        if line is None or line.name not in COMMANDS:
            await self._close(query, _OLD)
            return
        reply = await self._answer(line, message.chat.id, page)
        if in_place:
            is_new = await self._edit(bot, message, reply)
            await self._close(query, None if is_new else "Nothing new.")
        else:
            await self._say(bot, message, reply)
            await self._close(query)

    async def _close(self, query: CallbackQuery, text: str | None = None) -> None:
        """Let the button's circle stop turning; nothing is lost where that fails."""
        try:
            await query.answer(text)
        except TelegramError as error:
            log.info("a button's answer was not taken: %s", error)

    # What is sent

    async def _say(self, bot: Bot, message: Message, reply: Reply) -> None:
        chat, thread = message.chat, message.message_thread_id if message.is_topic_message else None
        # In a group it must be seen to whom this is an answer.
        is_group = chat.type != ChatType.PRIVATE
        quoted = ReplyParameters(message.message_id, allow_sending_without_reply=True) if is_group else None
        if reply.picture is None:
            await bot.send_message(
                chat.id,
                cut(reply.text, MOST_TEXT),
                parse_mode=ParseMode.HTML,
                reply_markup=_markup(reply),
                reply_parameters=quoted,
                message_thread_id=thread,
                link_preview_options=LinkPreviewOptions(is_disabled=True),
            )
        else:
            await bot.send_photo(
                chat.id,
                reply.picture,
                cut(reply.text, MOST_CAPTION),
                parse_mode=ParseMode.HTML,
                reply_markup=_markup(reply),
                reply_parameters=quoted,
                message_thread_id=thread,
            )
        self.answered += 1

    async def _edit(self, bot: Bot, message: Message, reply: Reply) -> bool:
        """Put `reply` in the message's place; whether that changed anything.

        A picture cannot become a text, nor the other way round: then it is said anew.
        """
        if bool(message.photo) != (reply.picture is not None):
            await self._say(bot, message, reply)
            return True
        try:
            if reply.picture is None:
                await bot.edit_message_text(
                    cut(reply.text, MOST_TEXT),
                    message.chat.id,
                    message.message_id,
                    parse_mode=ParseMode.HTML,
                    reply_markup=_markup(reply),
                    link_preview_options=LinkPreviewOptions(is_disabled=True),
                )
            else:
                caption = cut(reply.text, MOST_CAPTION)
                media = InputMediaPhoto(reply.picture, caption, parse_mode=ParseMode.HTML)
                await bot.edit_message_media(
                    media, message.chat.id, message.message_id, reply_markup=_markup(reply)
                )
        except BadRequest as error:
            if "not modified" in str(error).lower():
                return False
            raise
        self.answered += 1
        return True


def _markup(reply: Reply) -> InlineKeyboardMarkup | None:
    if not reply.buttons:
        return None
    return InlineKeyboardMarkup(
        [[InlineKeyboardButton(each.label, callback_data=each.data) for each in row] for row in reply.buttons]
    )
