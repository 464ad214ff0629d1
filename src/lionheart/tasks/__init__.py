"""Built-in tasks. A task is a network with trained weights, data, a loss and a metric.

`build_task` returns the `Task` with a given name, for example ``"cifar10/resnet8"``. Modules in the subpackages register
recipes, from which tasks are built, in `TASKS`. These modules are imported automatically. Only this package contains code for
particular data sets. The package must not depend on mappings, chips or search.
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
