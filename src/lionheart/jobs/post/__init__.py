"""Steps after a search: the hold-out test, the choice of digital corrections for each layer, and the refresh interval."""
