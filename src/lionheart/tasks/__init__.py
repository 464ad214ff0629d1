"""Built-in tasks: networks with their data, metric and pre-trained weights.

Input: the name of a task, e.g. ``"cifar10/resnet8"``. Output: a `Task`. Each module below this package registers its recipe in
`TASKS`; there is no list of modules. Only this package knows data sets by name. It must not know mappings, chips or search.
"""

from typing import Any

from lionheart.deprecated import find_renamed
from lionheart.tasks.recipe import HUB_TASKS, TASKS, Pretrained, Recipe
from lionheart.tasks.registry import build_task, checkpoint_path, find_recipe, find_weights, task_names
from lionheart.tasks.task import Metric, Task, accuracy_scores, cross_entropy

__all__ = [
    "HUB_TASKS",
    "TASKS",
    "Metric",
    "Pretrained",
    "Recipe",
    "Task",
    "accuracy_scores",
    "build_task",
    "checkpoint_path",
    "cross_entropy",
    "find_recipe",
    "find_weights",
    "task_names",
]


def __getattr__(name: str) -> Any:
    return find_renamed(__name__, name)
