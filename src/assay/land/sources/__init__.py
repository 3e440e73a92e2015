"""One file a source; its name is the word a contract uses."""
