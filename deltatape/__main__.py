"""`python -m deltatape`: the same as the command."""

from deltatape.cli.app import main

main()
