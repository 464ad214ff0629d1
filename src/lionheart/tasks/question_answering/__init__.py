"""Tasks of question answering: SQuAD and SQuADShifts, windows of tokens, answers as spans of them.

Takes: the name of a task, through the registry of tasks. Returns: batches of questions, networks, scores, recipes. Must not
know: mappings, chips, search.
"""
