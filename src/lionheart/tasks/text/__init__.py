"""Tasks of text: the next token of State of the Union addresses, and the sentiment of movie reviews.

Takes: the name of a task, through the registry of tasks. Returns: batches of tokens, networks, recipes. Must not know:
mappings, chips, search.
"""

from lionheart.tasks.text.addresses import load_texts, train_tokenizer

__all__ = ["load_texts", "train_tokenizer"]
