"""Settings for the training and the retraining of networks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lionheart.spec import Spec


class TrainSpec(Spec):
    """Settings for training: optimiser, learning rate schedule, stopping criteria, precision, distillation and evaluation.

    Training stops when the training loss has not decreased for `patience` epochs, or after `max_epochs` epochs. The default
    values of these two settings are those of the retraining in the LionHeart paper. If `minutes` is set, the number of steps
    follows from this budget instead.
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
        "cosine", description="schedule of the learning rate over all steps, updated every step"
    )
    warmup: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="share of the steps in which the learning rate rises linearly to its peak [-]; None = 0.2 with one_cycle, "
        "else 0",
    )
    noise_warmup: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the steps of a retraining in which the noise rises linearly from 0 to its full strength, and the "
        "bound of the weights falls from the largest weight of each column to its value [-]",
    )
    max_epochs: int = Field(50, ge=1, description="largest number of epochs")
    minutes: float | None = Field(
        None,
        gt=0,
        description="duration of one training [min]: its first steps are timed, and the schedule gets as many steps as fit and "
        "runs to its end, whatever max_epochs and patience are; None = max_epochs decides",
    )
    patience: int | None = Field(
        5,
        ge=1,
        description="number of epochs without a lower training loss, after the noise has risen, after which training stops; "
        "None = no such stop",
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
    ema_decay: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="decay in each step of an exponential moving average of the weights, which is evaluated and kept in place "
        "of the last weights [-]; None = no average",
    )
    recalibrate_every: int | None = Field(
        None,
        ge=1,
        description="number of epochs of a retraining after which static input ranges are measured again, and averaged with "
        "the earlier ranges; they are also measured after the last epoch; None = the ranges before the retraining are kept",
    )
    recalibration_decay: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="weight of the earlier ranges when input ranges are measured again in a retraining [-]",
    )
    evaluate_every: int | None = Field(
        None,
        ge=1,
        description="number of epochs of a retraining after which the network is evaluated on newly simulated chips, always "
        "the same ones; the best weights are kept, or those before the retraining if they are better; None = the last weights",
    )
    evaluation_chips: int = Field(3, ge=1, description="number of chips of each evaluation in a retraining")
    evaluation_samples: int | None = Field(
        1_000,
        ge=1,
        description="number of validation samples of each evaluation in a retraining; None = as for decisions",
    )
