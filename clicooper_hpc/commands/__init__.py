"""One file a command of the command line: its options and the call behind it."""
