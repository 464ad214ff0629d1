"""Tasks of question answering: SQuAD and SQuADShifts, windows of tokens, and answers as spans of tokens.

Input: the name of a task, through the registry of tasks. Output: batches of questions, networks, scores and recipes. This
package must not know mappings, chips or search.
"""
