"""The bot that people ask on Telegram: allowed users only, over long polling or a webhook."""

import os

# The library then gives a server's retry_after as a timedelta, instead of warning that it will.
os.environ.setdefault("PTB_TIMEDELTA", "1")
