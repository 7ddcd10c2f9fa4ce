"""Files that others made, onto the tape: one file a format, and what loads them all."""
