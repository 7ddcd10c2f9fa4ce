"""The composition root: settings, the command line, the daemon; nothing imports it."""
