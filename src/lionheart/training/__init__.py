"""Training of digital networks, and hardware-aware training of networks with analog layers, which simulate hardware noise.

The function `train` receives a model, batches, a loss function and a `TrainSpec`. The model is trained in place. The returned
`TrainTrace` holds the loss of each epoch and the reason why training stopped. Training can be interrupted after any epoch and
resumed with the same result. The package must not depend on mappings, chips, accuracy bounds, or particular data sets.
"""

from lionheart.runs import TrainTrace
from lionheart.training.adapters import add_adapters_
from lionheart.training.devices import choose_arithmetic, choose_device, training_autocast
from lionheart.training.distill import add_teacher_outputs, distillation_loss
from lionheart.training.loop import LossFunction, TrainHooks, TrainSession, build_optimizer, require_parameters, train
from lionheart.training.schedule import noise_strength_at
from lionheart.training.spec import TrainSpec
from lionheart.training.state import load_training_state, load_weights, read_metadata, save_training_state, save_weights

__all__ = [
    "LossFunction",
    "TrainHooks",
    "TrainSession",
    "TrainSpec",
    "TrainTrace",
    "add_adapters_",
    "add_teacher_outputs",
    "build_optimizer",
    "choose_arithmetic",
    "choose_device",
    "distillation_loss",
    "load_training_state",
    "load_weights",
    "noise_strength_at",
    "read_metadata",
    "require_parameters",
    "save_training_state",
    "save_weights",
    "train",
    "training_autocast",
]
