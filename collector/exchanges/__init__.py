"""One file an exchange, and the registry that finds them by id."""
