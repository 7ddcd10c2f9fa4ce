"""What the bot answers: pure functions from rows to texts, each with the read of its rows."""
