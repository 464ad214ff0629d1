"""Built-in tasks: a network, its data, its metric, its pre-trained weights.

Takes: a name such as ``"cifar10/resnet8"``. Returns: a `Task`. A module anywhere below this package registers its recipe in
`TASKS`; nothing lists the modules. The only package that knows data sets by name. Must not know: mappings, chips, search.
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
