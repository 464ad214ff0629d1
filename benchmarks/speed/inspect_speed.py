"""Time and memory of the coverage audit of models from their configurations, for the whole process.

Run: python benchmarks/speed/inspect_speed.py
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LLAMA_7B = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "vocab_size": 32_000,
}
GPT2_SMALL = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
REPEATS = 5


def inspect(model: str) -> tuple[float, float]:
    """Return the time [s] and the peak resident memory [MB] of one `lionheart inspect`."""
    begin = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603  our own command
        [sys.executable, "-m", "lionheart", "inspect", model, "--json"], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"lionheart inspect {model} failed")
    return time.perf_counter() - begin, usage.ru_maxrss / 1024


def import_only() -> float:
    """Return the time of importing PyTorch and the model class alone [s]."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch; from transformers import GPT2LMHeadModel"], check=True)
    return time.perf_counter() - begin


def main() -> None:
    print("| model | median | largest of 5 | memory |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, config in {"GPT-2 small": GPT2_SMALL, "LLaMA 7B": LLAMA_7B}.items():
            (Path(folder) / "config.json").write_text(json.dumps(config))
            runs = [inspect(f"hf:{folder}") for _ in range(REPEATS)]
            times = [seconds for seconds, _ in runs]
            memory = max(size for _, size in runs)
            print(f"| {name} | {statistics.median(times):.1f} s | {max(times):.1f} s | {memory:.0f} MB |", flush=True)
    print(
        f"\nOf this importing torch and transformers' GPT-2: {statistics.median(import_only() for _ in range(REPEATS)):.1f} s"
    )


if __name__ == "__main__":
    main()
