"""Settings of one training or retraining."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lionheart.spec import Spec


class TrainSpec(Spec):
    """How weights are moved: SGD with momentum, an optional plateau stop, a hard cap.

    The defaults are the shape of the LionHeart paper's retraining: stop when the training loss has not fallen for
    `patience` epochs, at most `max_epochs`.
    """

    optimizer: Literal["sgd", "adamw"] = Field(
        "sgd",
        description="rule that moves the weights; adamw (Loshchilov and Hutter, ICLR 2019) is usual for transformers",
    )
    learning_rate: float = Field(0.02, gt=0, description="peak learning rate [-]")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD; first-moment decay of AdamW [-]")
    nesterov: bool = Field(True, description="Nesterov momentum of SGD; needs momentum > 0")
    weight_decay: float = Field(0.0, ge=0, description="of weights of two or more dimensions [-]")
    schedule: Literal["constant", "cosine", "one_cycle"] = Field(
        "cosine", description="learning rate over max_epochs, changed every step"
    )
    max_epochs: int = Field(50, ge=1, description="hard cap on epochs")
    patience: int | None = Field(
        5, ge=1, description="epochs without a lower training loss before stopping; None = never"
    )
    steps_per_epoch: int | None = Field(
        None, ge=1, description="steps that make an epoch; None = the whole training set"
    )
    gradient_clip: float | None = Field(None, gt=0, description="largest gradient norm; None = no clipping")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "float32",
        description="arithmetic of forward and backward; weights and optimiser stay float32; auto = bfloat16 where the "
        "processor is fast at it (AVX-512, or a CUDA GPU of capability 8.0), else float32",
    )
    distillation: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the loss that follows the outputs of the digital network in retraining [-]",
    )
    temperature: float = Field(2.0, gt=0, description="that softens both networks' class probabilities [-]")
