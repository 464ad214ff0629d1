"""Networks of the MLPerf Tiny benchmark as its reference models are, with the weights that were published for them.

Takes: the name of a task, through the registry of tasks. Returns: a network, recipes. Must not know: mappings, chips, search.
"""
