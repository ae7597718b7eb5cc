"""The command groups: each parses and prints, the plain modules beside it know and do."""
