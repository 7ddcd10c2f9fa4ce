"""Failures that a user can act on; the command line turns each into one line and an exit code."""


class DeltatapeError(Exception):
    """A failure with a message that says what to do; `exit_code` is what the command returns."""

    exit_code = 4


class WrongUse(DeltatapeError):
    """What was asked for cannot be done as asked: a wrong argument, an unknown symbol or file."""

    exit_code = 2


class Unavailable(DeltatapeError):
    """Something outside is missing: the database, the network, an exchange."""

    exit_code = 3
