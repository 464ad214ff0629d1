"""Built-in tasks: a network, its data, its metric, its pre-trained weights.

Comes in: a name such as ``"cifar10/resnet8"``. Goes out: a `Task`. The only room that knows data
sets by name. Must not know: mappings, chips, search.
"""

from lionheart.tasks.registry import build_task, task_names
from lionheart.tasks.task import Measure, Task, accuracy_scores, cross_entropy

__all__ = ["Measure", "Task", "accuracy_scores", "build_task", "cross_entropy", "task_names"]
