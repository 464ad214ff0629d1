"""After the search: the hold-out test, and the compensation that each layer needs."""
