"""Tasks with text: the next token of State of the Union addresses, and the sentiment of movie reviews.

Input: the name of a task, through the registry of tasks. Output: batches of tokens, networks and recipes. This package must
not know mappings, chips or search.
"""

from lionheart.tasks.text.addresses import load_texts, train_tokenizer

__all__ = ["load_texts", "train_tokenizer"]
