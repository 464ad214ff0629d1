"""Steps after a search: the hold-out test, the choice of digital corrections for each layer, and the refresh interval.

Digital corrections are e.g. drift compensation. The refresh interval is the time after which chips must be reprogrammed.
"""
