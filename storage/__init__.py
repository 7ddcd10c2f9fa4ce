"""TimescaleDB: the private server, the tables, and every way onto the tape and off it."""
