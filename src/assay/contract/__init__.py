"""What a dataset promises, and how that is read, checked and fingerprinted."""
