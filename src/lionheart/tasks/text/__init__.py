"""Built-in tasks with text: predicting the next token of State of the Union addresses, and the sentiment of movie reviews.

The modules provide batches of tokens and networks, and register recipes of tasks in `lionheart.tasks.TASKS`. This package must
not depend on mappings, chips or search.
"""

from lionheart.tasks.text.addresses import load_texts, train_tokenizer

__all__ = ["load_texts", "train_tokenizer"]
