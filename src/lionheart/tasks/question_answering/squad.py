"""Data sets for question answering: SQuADShifts for training and validation, and SQuAD v1.1 for test.

A sample is a question, a paragraph, and answers that several people found in the paragraph. SQuADShifts (Miller et al. 2020)
was collected in the same way as SQuAD (Rajpurkar et al. 2016), but the two data sets have no paragraph in common. Models that
were fine-tuned on the training set of SQuAD have therefore not been trained on the questions in SQuADShifts. The test split is
the development set of SQuAD with 10,570 questions. If the official file cannot be downloaded, a copy in the package BIG-bench
is used instead, in which 5 questions are missing.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

from lionheart.errors import ArtifactError
from lionheart.files import cache_dir, require_free_space, sha256_file
from lionheart.progress import SILENT, Progress
from lionheart.tasks.downloads import SOURCE_FAULTS, download_file
from lionheart.tasks.packages import PackagedFiles, fetch_files, tar_member

OFFICIAL_TEST = "dev-v1.1.json"
OFFICIAL_URL = f"https://rajpurkar.github.io/SQuAD-explorer/dataset/{OFFICIAL_TEST}"
OFFICIAL_SHA256 = "95aa6a52d5d6a735563366753ca50492a658031da74f301ac5238b03966972c9"
COPIED_TEST = "squaddev_v1.1.json"
_OFFICIAL_BYTES = 5_000_000
#: Files of SQuADShifts, and whether the paragraphs of one article stay in one split. Reddit has a single article.
SHIFTS = {
    "new_wiki_v1.0.json": True,
    "nyt_v1.0.json": True,
    "reddit_v1.0.json": False,
    "amazon_reviews_v1.0.json": True,
}
#: One of this many articles, or paragraphs, is held out for validation.
HELD_OUT = 16


def _unpack(names: tuple[str, ...], archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {name: tar_member(tar, f"bigbench-1.0.0/bigbench/benchmark_tasks/squad_shifts/{name}") for name in names}


PACKAGE = PackagedFiles(
    title="SQuADShifts",
    requirement="bigbench==1.0.0",
    kind="sdist",
    sha256="1bb398a5512c6d798cdebe0dfa0ac03f67f6033fa6b39c6ef71df978c7cbc5c2",
    files={
        COPIED_TEST: "45089eff3cf52004b1dca6814cde5c57082fdb09872f18c79a5d944d45be523a",
        "new_wiki_v1.0.json": "428104b87438d9059eb5df2883267cf9d30f6f4fcaed92e72107c8b913eaea40",
        "nyt_v1.0.json": "a770cdc1b460e3bd256a9f95aae021ed6502768b1713be777f3dd8740a4a1965",
        "reddit_v1.0.json": "db57c9269e4965fdb5dc045afb00e02f03668790ad6f66ab0354bf74b0fc63fe",
        "amazon_reviews_v1.0.json": "3d3b16b874aefef754d04c1cbd64457b3a6456aa2e946a6132b8254c17e34c4a",
    },
    unpack=partial(_unpack, (COPIED_TEST, *SHIFTS)),
    size_bytes=400_000_000,
)


@final
@dataclass(frozen=True)
class Question:
    """A question about a paragraph.

    Args:
        key: Identifier of the question in the data set.
        text: Text of the question.
        context: Text of the paragraph.
        answers: Correct answers, given by several people.
        span: Index of the first character of an answer in `context`, and index of the last character plus 1. None if no answer
            is at the position that the data set states.
    """

    key: str
    text: str
    context: str
    answers: tuple[str, ...]
    span: tuple[int, int] | None


def load_questions(progress: Progress = SILENT) -> dict[str, list[Question]]:
    """Return the questions of each split, ``train``, ``validation`` and ``test``, sorted by the SHA-256 of their identifiers.

    The data sets are downloaded if they are not in the cache. The data sets state at which character of the
    paragraph an answer starts. Training and validation questions whose answers are not at the stated positions are left out.
    A message reports how many questions are left out.

    Raises:
        ArtifactError: The files are not available, or a file has a wrong format.
    """
    folder = cache_dir() / "squad"
    test = _official_test(folder, progress)
    fetch_files(PACKAGE, folder, progress)
    splits: dict[str, list[Question]] = {"train": [], "validation": [], "test": []}
    n_lost = 0
    for name, by_article in SHIFTS.items():
        for title, question in read_questions(folder / name):
            split = split_of(title if by_article else question.context)
            if question.span is None:
                n_lost += 1
            else:
                splits[split].append(question)
    splits["test"] = [question for _, question in read_questions(test or folder / COPIED_TEST)]
    if n_lost:
        progress.note(f"SQuADShifts: {n_lost} questions left out, whose answers are not at the stated positions")
    return {split: sorted(questions, key=lambda each: _digest(each.key)) for split, questions in splits.items()}


def split_of(key: str) -> str:
    """Return the split, ``train`` or ``validation``, to which an article or a paragraph belongs.

    About one of 16 articles or paragraphs is in ``validation``. The choice depends only on the SHA-256 of `key`.

    Args:
        key: Title of the article. For posts on Reddit, which have a single title: text of the paragraph.
    """
    return "validation" if int(_digest(key)[:16], 16) % HELD_OUT == 0 else "train"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def read_questions(path: Path) -> Iterator[tuple[str, Question]]:
    """Yield the title of the article and the `Question` for each question in a file, in the order of the file.

    Raises:
        ArtifactError: The file does not have the format of SQuAD v1.1.
    """
    try:
        for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
            for paragraph in article["paragraphs"]:
                for entry in paragraph["qas"]:
                    yield article["title"], _read_question(entry, paragraph["context"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path}: not a file in the format of SQuAD v1.1: {type(error).__name__}: {error}",
            hint="delete the file and run the command again to download it",
        ) from error


def _read_question(entry: Any, context: str) -> Question:
    span = None
    for answer in entry["answers"]:
        begin, text = answer["answer_start"], answer["text"]
        if span is None and text and begin >= 0 and context[begin : begin + len(text)] == text:
            span = (begin, begin + len(text))
    return Question(entry["id"], entry["question"], context, tuple(each["text"] for each in entry["answers"]), span)


def _official_test(folder: Path, progress: Progress) -> Path | None:
    """Return the path of the official test file, or None if the copy from the package BIG-bench must be used.

    The official file is downloaded if neither the official file nor the copy is in the cache.
    """
    path = folder / OFFICIAL_TEST
    if not path.exists():
        if (folder / COPIED_TEST).exists():
            return None  # the choice was made earlier: all results of one cache use the same questions
        require_free_space(folder, _OFFICIAL_BYTES, purpose="SQuAD")
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as temporary:
            fetched = Path(temporary) / OFFICIAL_TEST
            try:
                download_file(OFFICIAL_URL, fetched, "SQuAD", progress)
                _require_official(fetched, OFFICIAL_URL)
            except SOURCE_FAULTS as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                progress.note(f"SQuAD: {OFFICIAL_URL}: {reason}; using the copy in {PACKAGE.requirement}")
                return None
            fetched.replace(path)
    _require_official(path, str(path))
    return path


def _require_official(path: Path, where: str) -> None:
    if (found := sha256_file(path)) != OFFICIAL_SHA256:
        raise ArtifactError(
            f"{where}: has SHA-256 {found[:16]}..., expected {OFFICIAL_SHA256[:16]}...",
            hint="the file is damaged; delete it and run the command again to download it",
        )
