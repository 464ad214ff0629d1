"""Steps after the search: the hold-out test, the compensation of each layer, and the refresh interval."""
