"""SQuAD and SQuADShifts: fixed splits, windows, the best span, official scores, models of one's own from folder to report."""

import copy
import hashlib
import io
import itertools
import json
import re
import string
import subprocess
import tarfile
import urllib.error
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recipes import put_recipe
from torch import Tensor, nn
from typer.testing import CliRunner

import lionheart.tasks.registry
from lionheart.cli import app
from lionheart.data import IndexedBatches, cut_samples, take_samples
from lionheart.errors import ArtifactError, ConfigError
from lionheart.evaluation import evaluate_metrics
from lionheart.files import cache_dir
from lionheart.jobs import read_card, train_task
from lionheart.jobs.measurement.sensitivity import tells_classes
from lionheart.tasks import Task, build_task
from lionheart.tasks.question_answering import networks, squad
from lionheart.tasks.question_answering.answer_spans import (
    answer_questions,
    exact_match_of,
    exact_match_scores,
    f1_of,
    f1_scores,
    find_answer_spans,
    span_loss,
)
from lionheart.tasks.question_answering.squad import Question, load_questions, read_questions, split_of
from lionheart.tasks.question_answering.tokenised_windows import SpanTargets, Windows, batch_questions, tokenise_windows
from lionheart.tasks.registry import Recipe
from lionheart.tasks.task import F1
from lionheart.tasks.text import minilm
from lionheart.training import TrainSpec

tokenizers = pytest.importorskip("tokenizers")

# --------------------------------------------------------------------------------------------------------- the files


def make_file(titles: list[str], *, per_article: int = 2, answer: str = "red", where: str = "The fox is") -> bytes:
    """A file of one paragraph and some questions for each title."""
    articles = [
        {
            "title": title,
            "paragraphs": [
                {
                    "context": f"{where} {answer} in {title}.",
                    "qas": [
                        {
                            "id": f"{title}-{number}",
                            "question": f"What colour is fox {number}?",
                            "answers": [{"text": answer, "answer_start": len(where) + 1}],
                        }
                        for number in range(per_article)
                    ],
                }
            ],
        }
        for title in titles
    ]
    return json.dumps({"data": articles, "version": "1.1"}).encode()


FILES = {name: make_file([f"{name[:6]} {i}" for i in range(40)]) for name in squad.SHIFTS}
FILES[squad.COPIED_TEST] = make_file(["copy"], answer="grey")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five small files in the cache, whose hashes pass for the real ones'."""
    folder = tmp_path / "cache" / "squad"
    folder.mkdir(parents=True)
    monkeypatch.setenv("LIONHEART_CACHE", str(folder.parent))
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    monkeypatch.setattr(squad, "PACKAGE", replace(squad.PACKAGE, files=digests, size_bytes=1))
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


class Listener:
    """A `Progress` that keeps its notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    @contextmanager
    def bar(self, text: str, total: float | None):
        yield SimpleNamespace(advance=lambda steps=1: None, describe=lambda text: None)


@pytest.mark.usefixtures("cache")
def test_articles_stay_together_but_for_reddit():
    splits = load_questions()
    assert len(splits["test"]) == 2
    assert len(splits["train"]) + len(splits["validation"]) == 4 * 40 * 2
    contexts = {split: {question.context for question in splits[split]} for split in ("train", "validation")}
    assert not contexts["train"] & contexts["validation"]
    for question in splits["train"] + splits["validation"]:
        title = question.key.rpartition("-")[0]
        key = question.context if title.startswith("reddit") else title
        assert question in splits[split_of(key)]
    for questions in splits.values():
        digests = [hashlib.sha256(question.key.encode()).hexdigest() for question in questions]
        assert digests == sorted(digests)  # the first stand for all


def test_split_is_fixed_for_ever():
    # Another split would leak validation questions into checkpoints made before.
    held_out = [i for i in range(60) if split_of(f"article {i}") == "validation"]
    assert held_out == [25, 50, 56]
    share = sum(split_of(str(i)) == "validation" for i in range(4_000)) / 4_000
    assert share == pytest.approx(1 / 16, abs=0.012)


def test_questions_without_an_answer_in_its_place_are_counted(cache: Path, monkeypatch: pytest.MonkeyPatch):
    broken = json.loads(FILES["nyt_v1.0.json"])
    entries = [article["paragraphs"][0]["qas"][0] for article in broken["data"]]
    entries[0]["answers"][0]["answer_start"] = 3  # elsewhere
    entries[1]["answers"][0]["text"] = "blue"  # nowhere
    entries[2]["answers"].insert(0, {"text": "Red", "answer_start": 11})  # a second answer is right
    content = json.dumps(broken).encode()
    (cache / "nyt_v1.0.json").write_bytes(content)
    digests = {**squad.PACKAGE.files, "nyt_v1.0.json": hashlib.sha256(content).hexdigest()}
    monkeypatch.setattr(squad, "PACKAGE", replace(squad.PACKAGE, files=digests))
    listener = Listener()
    splits = load_questions(listener)
    assert len(splits["train"]) + len(splits["validation"]) == 4 * 40 * 2 - 2
    assert listener.notes == ["SQuADShifts: 2 questions left out, whose answers are not at the stated positions"]
    (kept,) = [each for part in splits.values() for each in part if each.key == entries[2]["id"]]
    assert kept.context[slice(*kept.span)] == "red"
    assert kept.answers == ("Red", "red")


def test_test_questions_all_count(cache: Path, monkeypatch: pytest.MonkeyPatch):
    content = make_file(["copy"], answer="grey").replace(b'"answer_start": 11', b'"answer_start": 2')
    (cache / squad.COPIED_TEST).write_bytes(content)
    digests = {**squad.PACKAGE.files, squad.COPIED_TEST: hashlib.sha256(content).hexdigest()}
    monkeypatch.setattr(squad, "PACKAGE", replace(squad.PACKAGE, files=digests))
    assert [(each.span, each.answers) for each in load_questions()["test"]] == [(None, ("grey",))] * 2


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"bigbench-1.0.0/bigbench/benchmark_tasks/squad_shifts/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def sources(cache: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """An empty cache, a package registry with the five files, and an official address whose answer a test decides."""
    archive = tar_of(FILES)
    monkeypatch.setattr(squad, "PACKAGE", replace(squad.PACKAGE, sha256=hashlib.sha256(archive).hexdigest()))
    for name in FILES:
        (cache / name).unlink()
    state = SimpleNamespace(official=None, asked=[], n_pips=0)

    def run_pip(command: list[str], **kwargs: object) -> SimpleNamespace:
        state.n_pips += 1
        folder = Path(command[command.index("--dest") + 1])
        folder.mkdir()
        (folder / "bigbench-1.0.0.tar.gz").write_bytes(archive)
        return SimpleNamespace(returncode=0, stdout="", stderr="")

    def open_url(url: str, timeout: float) -> io.BytesIO:
        state.asked.append(url)
        if state.official is None:
            raise urllib.error.URLError("no route to host")
        reply = io.BytesIO(state.official)
        reply.headers = {"Content-Length": str(len(state.official))}
        return reply

    monkeypatch.setattr(subprocess, "run", run_pip)
    monkeypatch.setattr("urllib.request.urlopen", open_url)
    return state


def test_official_test_set_is_preferred_and_kept(sources: SimpleNamespace, cache: Path, monkeypatch):
    sources.official = make_file(["official"])
    monkeypatch.setattr(squad, "OFFICIAL_SHA256", hashlib.sha256(sources.official).hexdigest())
    for _ in range(2):
        assert {each.key for each in load_questions()["test"]} == {"official-0", "official-1"}
    assert sources.asked == ["https://rajpurkar.github.io/SQuAD-explorer/dataset/dev-v1.1.json"]
    assert sources.n_pips == 1
    (cache / squad.OFFICIAL_TEST).write_bytes(b"{}")
    with pytest.raises(ArtifactError, match=r"dev-v1\.1\.json: has SHA-256"):
        load_questions()


@pytest.mark.parametrize("official", [None, b"a captive portal"], ids=["unreachable", "something else"])
def test_copy_stands_in_for_the_official_test_set(official: bytes | None, sources: SimpleNamespace, cache: Path):
    sources.official = official
    listener = Listener()
    assert {each.key for each in load_questions(listener)["test"]} == {"copy-0", "copy-1"}
    assert "using the copy in bigbench==1.0.0" in listener.notes[0]
    load_questions()
    assert len(sources.asked) == sources.n_pips == 1  # what a cache reports on does not change by itself
    assert sorted(entry.name for entry in cache.iterdir()) == sorted(FILES)


@pytest.mark.parametrize(
    "content", [b"{", b"{}", b'{"data": [{"title": "x", "paragraphs": [{"qas": [{}]}]}]}', b'{"data": 1}']
)
def test_file_of_another_form_is_named(content: bytes, tmp_path: Path):
    path = tmp_path / "odd.json"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"odd\.json: not a file in the format of SQuAD"):
        list(read_questions(path))


# ----------------------------------------------------------------------------------------------------------- windows

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "what",
    "is",
    "the",
    "fox",
    "?",
    "red",
    "grey",
    *(f"w{i}" for i in range(100)),
]


def make_tokenizer() -> object:
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]")  # noqa: S106
    )
    tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def ask(text: str, context: str, answer: str = "", key: str = "q", *more: str) -> Question:
    begin = context.find(answer) if answer else -1
    return Question(key, text, context, (answer, *more), (begin, begin + len(answer)) if begin >= 0 else None)


LONG = " ".join(f"w{i}" for i in range(100))


def test_windows_are_those_of_the_tokenizer():
    questions = [ask("what is the fox?", "the fox is red", "red"), ask("w1 ?", LONG, "w40 w41"), ask("", "w3", "w3")]
    windows = tokenise_windows(make_tokenizer(), questions, 36)
    plain = make_tokenizer()
    plain.enable_truncation(36, stride=12, strategy="only_second")
    expected = [
        (number, each)
        for number, question in enumerate(questions)
        for whole in [plain.encode(question.text, question.context)]
        for each in (whole, *whole.overflowing)
    ]
    assert windows.question.tolist() == [number for number, _ in expected]
    for row, (_, encoding) in enumerate(expected):
        n = len(encoding.ids)
        assert windows.lengths[row] == n
        assert windows.input_ids[row, :n].tolist() == encoding.ids
        assert windows.input_ids[row, n:].sum() == windows.token_type_ids[row, n:].sum() == 0
        assert windows.token_type_ids[row, :n].tolist() == encoding.type_ids
        first, end = windows.context[row].tolist()
        assert [i for i, sequence in enumerate(encoding.sequence_ids) if sequence == 1] == list(range(first, end))
        assert windows.offsets[row, first:end].tolist() == [list(each) for each in encoding.offsets[first:end]]


@pytest.mark.parametrize("answer", ["w0", "w99", "w30", "w38 w39 w40", "w7 w8 w9 w10"])
def test_answer_is_found_in_every_window_that_holds_it_and_nowhere_else(answer: str):
    question = ask("what is w1 ?", LONG, answer)
    windows = tokenise_windows(make_tokenizer(), [question], 36)
    n_found = 0
    for row in range(len(windows.question)):
        first, end = windows.context[row].tolist()
        text = LONG[windows.offsets[row, first, 0] : windows.offsets[row, end - 1, 1]]
        begin, last = windows.spans[row].tolist()
        if answer.split()[0] in text.split() and answer.split()[-1] in text.split():
            assert LONG[windows.offsets[row, begin, 0] : windows.offsets[row, last, 1]] == answer
            n_found += 1
        else:
            assert (begin, last) == (0, 0)
    assert n_found >= 1
    covered = {token for row in windows.input_ids.tolist() for token in row}
    assert covered >= set(range(WORDS.index("w0"), len(WORDS)))  # no word of the paragraph is lost


def test_answer_inside_a_token_takes_the_whole_token():
    (first, last) = tokenise_windows(make_tokenizer(), [ask("?", "the redfox is", "fox")], 24).spans[0].tolist()
    assert (first, last) == (4, 4)


def test_long_question_leaves_room_for_the_paragraph():
    windows = tokenise_windows(make_tokenizer(), [ask(LONG, "w1 red", "red")], 36)
    assert windows.input_ids.shape == (1, 36)
    assert windows.context.tolist() == [[2 + 6, 2 + 6 + 2]]  # [CLS], a sixth of 36, [SEP]


# ----------------------------------------------------------------------------------------------------------- batches


def make_questions(turn: int = 0) -> tuple[Windows, list[Question]]:
    """Return questions about paragraphs whose words are rotated by `turn` places."""
    lengths = [3, 50, 12, 20, 3, 30]
    questions = [
        ask("what ?", " ".join(["red", *(f"w{(j + turn) % n}" for j in range(n))]), "red", f"q{i}")
        for i, n in enumerate(lengths)
    ]
    return tokenise_windows(make_tokenizer(), questions, 36), questions


def make_batches(
    *, batch_size: int = 2, shuffle: bool = False, with_types: bool = True, turn: int = 0
) -> IndexedBatches:
    windows, questions = make_questions(turn)
    return batch_questions(windows, questions, batch_size=batch_size, shuffle=shuffle, with_types=with_types)


def keys_of(batches: IndexedBatches, seed: int = 0) -> list[list[str]]:
    return [
        [each.key for each in targets.questions] for _, targets in batches.epoch(torch.Generator().manual_seed(seed))
    ]


def test_a_batch_holds_all_windows_of_its_questions_and_little_padding():
    batches, (windows, _) = make_batches(), make_questions()
    assert keys_of(batches) == [["q1", "q5"], ["q3", "q2"], ["q0", "q4"]]  # the longest first
    for inputs, targets in batches.epoch(torch.Generator()):
        assert len(targets) == 2
        assert list(inputs) == ["input_ids", "attention_mask", "token_type_ids"]
        n_windows = sum(int((windows.question == int(each.key[1:])).sum()) for each in targets.questions)
        assert len(targets.question) == len(inputs["input_ids"]) == len(targets.spans) == n_windows
        assert targets.question.tolist() == sorted(targets.question.tolist())
        longest = int(inputs["attention_mask"].sum(1).max())
        assert longest <= inputs["input_ids"].shape[1] < longest + 8
        assert torch.equal(inputs["attention_mask"] == 0, inputs["input_ids"] == 0)
        for question, (first, last), offsets in zip(
            targets.question.tolist(), targets.spans, targets.offsets, strict=True
        ):
            if last:
                text = targets.questions[question].context
                assert text[offsets[first, 0] : offsets[last, 1]] == "red"
    assert list(next(iter(make_batches(with_types=False).epoch(torch.Generator())))[0]) == [
        "input_ids",
        "attention_mask",
    ]


def test_shuffled_epochs_follow_the_seed_and_see_each_question_once():
    batches = make_batches(shuffle=True)
    assert keys_of(batches, 1) == keys_of(batches, 1)
    assert len({str(keys_of(batches, seed)) for seed in range(6)}) > 1
    assert sorted(itertools.chain(*keys_of(batches, 2))) == [f"q{i}" for i in range(6)]
    four = make_batches(batch_size=4, shuffle=True)
    assert (len(four), [len(each) for each in keys_of(four)]) == (1, [4])  # two wait for another epoch


def test_samples_are_cut_in_the_order_of_the_data():
    batches = make_batches()
    first, rest = cut_samples(batches, 4)
    assert (first.n_samples, rest.n_samples, len(first), len(rest)) == (4, 2, 2, 1)
    assert {key for batch in keys_of(first) for key in batch} == {"q0", "q1", "q2", "q3"}
    assert {key for batch in keys_of(rest) for key in batch} == {"q4", "q5"}
    assert keys_of(first.take(2, after=1)) == [["q1", "q2"]]
    whole, nothing = cut_samples(batches, 99)
    assert (whole.n_samples, len(nothing), keys_of(nothing)) == (6, 0, [])
    assert take_samples(batches, None) is batches


def test_nothing_to_batch_is_refused():
    windows = tokenise_windows(make_tokenizer(), [ask("?", "red", "red")], 36)
    with pytest.raises(ConfigError, match="got no question"):
        batch_questions(windows, [], batch_size=1)
    with pytest.raises(ConfigError, match="batch_size: got 0"):
        batch_questions(windows, [ask("?", "red", "red")], batch_size=0)


# ------------------------------------------------------------------------------------------------- spans and scores


def make_targets(owners: list[int], n_tokens: int, context: tuple[int, int] = (2, 9), words: str = "") -> SpanTargets:
    """Windows of `n_tokens` tokens; token i of a window stands for character i of its question's paragraph."""
    questions = tuple(
        Question(str(i), "", words or string.ascii_lowercase, ("a",), None) for i in range(max(owners) + 1)
    )
    offsets = torch.stack([torch.arange(n_tokens), torch.arange(n_tokens) + 1], dim=1).expand(len(owners), -1, -1)
    bounds = torch.tensor([context] * len(owners))
    return SpanTargets(torch.zeros(len(owners), 2, dtype=torch.int64), bounds, offsets, torch.tensor(owners), questions)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    owners=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    n_best=st.integers(1, 12),
    max_tokens=st.integers(1, 6),
)
def test_best_span_is_that_of_a_plain_search(seed: int, owners: list[int], n_best: int, max_tokens: int):
    owner = [question for question, count in enumerate(owners) for _ in range(count)]
    targets = make_targets(owner, 12)
    outputs = torch.randn(len(owner), 2, 12, generator=torch.Generator().manual_seed(seed))
    spans, scores = find_answer_spans(outputs, targets, n_best=n_best, max_tokens=max_tokens)
    for question in range(len(owners)):
        best, found = -np.inf, None
        for window in (row for row, each in enumerate(owner) if each == question):
            inside = range(*targets.context[window].tolist())
            starts = sorted(inside, key=lambda i: -float(outputs[window, 0, i]))[:n_best]
            ends = sorted(inside, key=lambda i: -float(outputs[window, 1, i]))[:n_best]
            for start, end in itertools.product(starts, ends):
                score = float(outputs[window, 0, start] + outputs[window, 1, end])
                if start <= end < start + max_tokens and score > best:
                    best, found = score, [window, start, end]
        assert float(scores[question]) == pytest.approx(best)
        if found is None:
            assert answer_questions(outputs, targets) is not None
        else:
            assert spans[question].tolist() == found


def test_a_question_without_a_span_is_answered_with_nothing():
    targets = make_targets([0, 1], 12, context=(3, 3))
    outputs = torch.randn(2, 2, 12)
    assert answer_questions(outputs, targets) == ["", ""]
    assert f1_scores(outputs, targets).tolist() == [0.0, 0.0]


def official_normalize(text: str) -> str:
    text = "".join(character for character in text.lower() if character not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def official_f1(prediction: str, truth: str) -> float:
    ours, theirs = official_normalize(prediction).split(), official_normalize(truth).split()
    n_same, left = 0, list(theirs)
    for word in ours:
        if word in left:
            left.remove(word)
            n_same += 1
    if n_same == 0:
        return 0.0
    precision, recall = n_same / len(ours), n_same / len(theirs)
    return 2 * precision * recall / (precision + recall)


texts = st.lists(
    st.sampled_from(["the", "A", "an", "fox", "Fox!", "theory", "re-d", "§", "’s", ".", "\u00a0", "\n", "an.", "İ"]),
    max_size=6,
).map(" ".join)


@settings(max_examples=200, deadline=None)
@given(answer=texts, truth=texts)
def test_scores_are_the_official_ones(answer: str, truth: str):
    assert f1_of(answer, truth) == pytest.approx(official_f1(answer, truth))
    assert exact_match_of(answer, truth) == (official_normalize(answer) == official_normalize(truth))


def test_the_best_of_several_truths_counts_for_each_question():
    words = "ab c the d"
    targets = make_targets([0, 0, 1, 2], 12, context=(0, 10), words=words)
    answers = [("ab x", "ab c"), ("The D.",), ("nothing",)]
    questions = tuple(replace(each, answers=a) for each, a in zip(targets.questions, answers, strict=True))
    targets = replace(targets, questions=questions)
    outputs = torch.zeros(4, 2, 12)
    outputs[0, 0, 0] = outputs[0, 1, 1] = 5  # "ab", the better window of question 0
    outputs[1, 0, 5] = outputs[1, 1, 7] = 4
    outputs[2, 0, 9] = outputs[2, 1, 9] = 5  # "d"
    outputs[3, 0, 0] = outputs[3, 1, 1] = 5
    assert answer_questions(outputs, targets) == ["ab", "d", "ab"]
    assert f1_scores(outputs, targets).tolist() == pytest.approx([2 / 3, 1, 0])
    assert exact_match_scores(outputs, targets).tolist() == [0, 1, 0]
    assert f1_scores(outputs.bfloat16(), targets).shape == (3,)


def test_loss_is_that_of_two_choices_among_tokens():
    targets = replace(make_targets([0, 1], 12), spans=torch.tensor([[3, 5], [0, 0]]))
    outputs = torch.randn(2, 2, 12)
    chances = outputs.softmax(-1)
    expected = -torch.stack([chances[0, 0, 3], chances[0, 1, 5], chances[1, 0, 0], chances[1, 1, 0]]).log().mean()
    torch.testing.assert_close(span_loss(outputs, targets), expected)


# ---------------------------------------------------------------------------------------------- a model of one's own


class Finder(nn.Module):
    """Marks one kind of token as the answer; it learns which."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(WORDS), 8)
        self.head = nn.Linear(8, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        return self.head(self.embedding(input_ids)).transpose(1, 2)


@pytest.fixture
def finder_recipe(monkeypatch: pytest.MonkeyPatch) -> str:
    recipe = Recipe(
        build_model=Finder,
        build_data=lambda *, batch_size, progress: (
            make_batches(shuffle=True),
            make_batches(turn=1),
            make_batches(turn=2),
        ),
        train_spec=TrainSpec(optimizer="adamw", learning_rate=0.1, schedule="one_cycle", max_epochs=20, patience=None),
        batch_size=2,
        loss=span_loss,
        metric=replace(F1, compute=f1_scores),
        extra_metrics={"exact_match": exact_match_scores},
    )
    put_recipe(monkeypatch, "tiny/finder", recipe)
    return "tiny/finder"


def test_training_learns_and_its_card_has_both_scores(finder_recipe: str, tmp_path: Path):
    card = train_task(finder_recipe, tmp_path / "finder.safetensors")
    assert card.training_loss[-1] < 0.3 * card.training_loss[0]
    assert card.measure == "F1"
    assert card.test == card.validation == {"F1": 1.0, "exact_match": 1.0}
    assert read_card(tmp_path / "finder.json") == card
    task = build_task(finder_recipe, weights=tmp_path / "finder.safetensors")
    assert task.metric == F1
    found = evaluate_metrics(
        task.model, task.test, {"f1": f1_scores, "loss": lambda *each: span_loss(*each).reshape(1)}
    )
    assert found["f1"] == 1.0
    assert found["loss"] > 0


def test_training_goes_on_where_it_was_stopped(finder_recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = train_task(finder_recipe, tmp_path / "whole.safetensors")

    def stop(*args: object, **kwargs: object) -> None:
        calls.append(args)
        save(*args, **kwargs)
        if len(calls) == 7:
            raise KeyboardInterrupt

    calls: list[object] = []
    save = lionheart.training.loop.save_training_state
    monkeypatch.setattr("lionheart.training.loop.save_training_state", stop)
    with pytest.raises(KeyboardInterrupt):
        train_task(finder_recipe, tmp_path / "parts.safetensors")
    assert train_task(finder_recipe, tmp_path / "parts.safetensors").training_loss == whole.training_loss
    assert len(calls) == 20


def test_spans_are_classes_to_the_sensitivity(finder_recipe: str):
    task = Task(Finder(), make_batches(), make_batches(), make_batches(), metric=f1_scores, loss=span_loss)
    assert tells_classes(task, task.validation)


@pytest.fixture
def mobilebert(tmp_path: Path) -> Path:
    """A MobileBERT of two blocks with random weights and its tokenizer, as `save_pretrained` writes them."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path / "mobilebert"
    torch.manual_seed(0)
    config = transformers.MobileBertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        embedding_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        intra_bottleneck_size=16,
        true_hidden_size=16,
        num_feedforward_networks=2,
        max_position_embeddings=36,
    )
    transformers.MobileBertForQuestionAnswering(config).save_pretrained(folder)
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep")}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=make_tokenizer(), **special)
    fast.save_pretrained(folder)
    return folder


@pytest.mark.usefixtures("cache")
def test_task_around_a_model_from_a_folder(mobilebert: Path):
    task = build_task(f"squad@{mobilebert}")
    assert (task.name, task.metric, task.metric.compute, task.loss) == (f"squad@{mobilebert}", F1, f1_scores, span_loss)
    inputs = task.example_inputs()
    assert list(inputs) == ["input_ids", "attention_mask", "token_type_ids"]
    with torch.no_grad():
        logits = task.model(**inputs)
        plain = task.model.model(**inputs)
    assert logits.shape == (1, 2, inputs["input_ids"].shape[1])
    torch.testing.assert_close(logits, torch.stack([plain.start_logits, plain.end_logits], dim=1))
    state = torch.get_rng_state()
    outputs = [copy.deepcopy(task.model).train(mode)(**inputs) for mode in (True, False)]
    torch.testing.assert_close(*outputs)
    assert torch.equal(torch.get_rng_state(), state)  # no dropout draws from it
    assert build_task(f"squad@{mobilebert}").test.n_samples == 2


def lionheart_json(*args: object) -> object:
    found = CliRunner().invoke(app, [*map(str, args), "--json"], catch_exceptions=False)
    assert found.exit_code in (0, 3), found.output
    return json.loads(found.stdout)


@pytest.mark.usefixtures("cache")
def test_a_hugging_face_model_goes_through_every_stage(mobilebert: Path, tmp_path: Path):
    name, run = f"squad@{mobilebert}", tmp_path / "run"
    inspected = lionheart_json("inspect", name)
    # A block: q, k, v, their output; a bottleneck before and behind and one shared by q and k; two feed-forward pairs.
    n_projections = 2 * (4 + 3 + 2 * 2) + 2
    assert len(inspected["projections"]) == n_projections
    (tmp_path / "settings.toml").write_text(
        '[search]\nstrategy = "training-free"\nn_chips = 2\nn_chips_final = 2\nvalidation_samples = 8\nmax_drop_pp = 50.0\n'
        'report_times = ["1s", "1d"]\n[tile]\nrows = 32\ncols = 32\n'
    )
    result = lionheart_json("map", name, "--config", tmp_path / "settings.toml", "--out", run)
    assert result["outcome"] in ("mapped", "infeasible")
    assert len(result["mapping"]["placements"]) == n_projections
    assert [
        row["t_inference"]
        for row in lionheart_json("evaluate", run, "--task", name, "--times", "1s,1h", "--chips", 2)[
            "accuracy_over_time"
        ]
    ]
    lionheart_json("simulate", run)
    found = CliRunner().invoke(app, ["report", str(run)])
    assert found.exit_code == 0, found.output


def test_unknown_model_is_one_clear_error(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("transformers")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        ArtifactError, match="squad@nobody/nothing: the model cannot be loaded from a directory or from the hub"
    ) as caught:
        build_task("squad@nobody/nothing")
    assert "save_pretrained" in caught.value.hint


def test_model_without_a_tuned_head_is_refused(cache: Path, tmp_path: Path, mobilebert: Path):
    transformers = pytest.importorskip("transformers")
    transformers.MobileBertModel.from_pretrained(mobilebert).save_pretrained(mobilebert)
    with pytest.raises(ConfigError, match=r"the model has no weights for qa_outputs\.bias, qa_outputs\.weight"):
        build_task(f"squad@{mobilebert}")


@pytest.mark.parametrize("damage", ["kind", "config"])
def test_model_of_another_kind_is_refused(damage: str, cache: Path, mobilebert: Path):
    config = json.loads((mobilebert / "config.json").read_text())
    config["model_type"] = "vit" if damage == "kind" else "no-such-kind"
    (mobilebert / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="cannot be loaded for question answering"):
        build_task(f"squad@{mobilebert}")


# ------------------------------------------------------------------------------------------------------ the real thing


@pytest.fixture(scope="module")
def real_questions() -> dict[str, list[Question]]:
    missing = [name for name in squad.PACKAGE.files if not (cache_dir() / "squad" / name).exists()]
    if missing:
        pytest.skip(f"{', '.join(missing)} not in the cache; building the task squad/minilm fetches them (358 MB)")
    return load_questions()


@pytest.mark.data
def test_real_splits_are_fixed_for_ever_and_share_no_paragraph(real_questions: dict[str, list[Question]]):
    sizes = {split: len(questions) for split, questions in real_questions.items()}
    assert sizes.pop("test") in (10_565, 10_570)  # BIG-bench's copy, or the official file
    assert sizes == {"train": 34_470, "validation": 2_850}
    contexts = [{question.context for question in questions} for questions in real_questions.values()]
    assert len(set.union(*contexts)) == sum(map(len, contexts))
    for split in ("train", "validation"):
        assert all(each.context[slice(*each.span)] in each.answers for each in real_questions[split])
    assert sum(f1_of(each.answers[0], each.answers[-1]) for each in real_questions["test"]) > 8_000  # people agree


@pytest.mark.data
def test_real_answers_lie_in_windows_of_minilms_tokens(real_questions: dict[str, list[Question]]):
    folder = cache_dir() / "minilm"
    if not (folder / minilm.TOKENIZER).exists():
        pytest.skip("MiniLM-L6 is not in the cache")
    questions = [*real_questions["validation"][:150], *real_questions["test"][:150]]
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / minilm.TOKENIZER))
    windows = tokenise_windows(tokenizer, questions, networks.N_TOKENS)
    assert windows.input_ids[:, 0].tolist() == [101] * len(windows.question)  # [CLS]
    best = torch.zeros(len(questions))
    for number, (first, last), offsets in zip(windows.question, windows.spans, windows.offsets, strict=True):
        if last:
            question = questions[number]
            best[number] = max(
                f1_of(question.context[offsets[first, 0] : offsets[last, 1]], a) for a in question.answers
            )
    assert float(best.mean()) > 0.99
    types = windows.token_type_ids.bool()
    position = torch.arange(types.shape[1])
    second = (position >= windows.context[:, :1]) & (position < windows.lengths.unsqueeze(1))
    assert torch.equal(types, second)
