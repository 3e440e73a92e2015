"""The zones: bronze as a log, silver as its fold in two tables, gold as releases; and where each batch stands."""
