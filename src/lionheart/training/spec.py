"""Settings for the training and the retraining of networks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lionheart.spec import Spec


class TrainSpec(Spec):
    """Settings for training: optimiser, learning rate schedule, stopping criteria, precision and distillation.

    Training stops when the training loss has not decreased for `patience` epochs, or after `max_epochs` epochs. The default
    values of these two settings are those of the retraining in the LionHeart paper.
    """

    optimizer: Literal["sgd", "adamw"] = Field(
        "sgd",
        description="optimiser; adamw (Loshchilov and Hutter, ICLR 2019) is usual for transformers",
    )
    learning_rate: float = Field(0.02, gt=0, description="peak learning rate [-]")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD, or first-moment decay of AdamW [-]")
    nesterov: bool = Field(True, description="whether SGD uses Nesterov momentum; needs momentum > 0")
    weight_decay: float = Field(0.0, ge=0, description="weight decay of parameters with two or more dimensions [-]")
    schedule: Literal["constant", "cosine", "one_cycle"] = Field(
        "cosine", description="schedule of the learning rate over max_epochs, updated every step"
    )
    max_epochs: int = Field(50, ge=1, description="largest number of epochs")
    patience: int | None = Field(
        5,
        ge=1,
        description="number of epochs without a lower training loss after which training stops; None = no such stop",
    )
    steps_per_epoch: int | None = Field(
        None, ge=1, description="largest number of steps per epoch; None = the whole training set"
    )
    gradient_clip: float | None = Field(None, gt=0, description="largest gradient norm; None = no clipping")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "float32",
        description="arithmetic of forward and backward passes; weights and optimiser state are float32; auto = bfloat16 on "
        "processors with fast bfloat16 (CPU with AVX-512, CUDA GPU of capability 8.0 or higher), else float32",
    )
    distillation: float = Field(
        0.0,
        ge=0,
        le=1,
        description="weight of the distillation loss against the outputs of the digital network in retraining, 0 to 1 [-]",
    )
    temperature: float = Field(
        2.0, gt=0, description="temperature of the class probabilities in the distillation loss [-]"
    )
