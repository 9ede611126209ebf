"""The command line: one thin module per command, one Output, one error table."""
