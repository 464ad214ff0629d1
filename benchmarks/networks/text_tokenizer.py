"""Learn the tokenizer of ``text/decoder`` on the train split and write the file that is shipped with LionHeart.

python benchmarks/networks/text_tokenizer.py
"""

from lionheart.tasks import checkpoint_path
from lionheart.tasks.text import load_texts, train_tokenizer

if __name__ == "__main__":
    path = checkpoint_path("text/tokenizer").with_suffix(".json")
    path.write_text(train_tokenizer(load_texts()["train"]).to_str() + "\n", encoding="utf-8")
    print(path)
