"""Where it runs; the file's name is the target's name."""
