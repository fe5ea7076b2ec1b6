"""How it is run: the command line, and what belongs to an installation."""
