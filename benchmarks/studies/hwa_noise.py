"""Comparison of hardware-aware training noises for ResNet8 in a given number of steps.

All 10 projections analog, retrained from the shipped weights, measured on validation over the same fresh chips. Prints a
Markdown table. Run: python benchmarks/studies/hwa_noise.py
"""

from __future__ import annotations

import argparse
import copy

from lionheart import HWASpec, LayerMapping, TileSpec, TrainSpec, build_task, convert_to_analog_, convert_to_digital_
from lionheart.analog import calibrate_input_ranges_, clip_weights_, seed_noise_
from lionheart.evaluation import evaluate_accuracy, evaluate_over_chips
from lionheart.rng import RandomStreams
from lionheart.training import TrainHooks, build_optimizer, train

VARIANTS: dict[str, HWASpec | None] = {
    "no retraining": None,
    "multiplicative 0.08 (the paper's)": HWASpec(weight_noise=0.08, weight_noise_kind="multiplicative"),
    "additive 0.08": HWASpec(weight_noise=0.08, weight_noise_kind="additive"),
    "device": HWASpec(weight_noise_kind="device"),
    "multiplicative 0.08, clip 1.5 sigma": HWASpec(
        weight_noise=0.08, weight_noise_kind="multiplicative", weight_clip_sigma=1.5
    ),
    "additive 0.08, clip 1.5 sigma": HWASpec(weight_noise=0.08, weight_noise_kind="additive", weight_clip_sigma=1.5),
    "device, clip 1.5 sigma (quick)": HWASpec(weight_noise_kind="device", weight_clip_sigma=1.5),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=384)
    parser.add_argument("--chips", type=int, default=10)
    parser.add_argument("--samples", type=int, default=2500)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    task = build_task("cifar10/resnet8")
    streams = RandomStreams(args.seed)
    graph = task.trace()
    samples = task.validation.take(args.samples)
    spec = TrainSpec(steps_per_epoch=args.steps, max_epochs=1, patience=None, learning_rate=0.02, precision="auto")
    print(f"digital before: {100 * evaluate_accuracy(task.model, samples, task.metric):.2f} %\n")
    print("| noise in training | digital after | 1 s | 1 day | chip to chip, 1 day |\n|---|---|---|---|---|")
    for name, hwa in VARIANTS.items():
        tile = TileSpec.pcm(hwa=hwa or HWASpec())
        model = convert_to_analog_(copy.deepcopy(task.model), LayerMapping.from_analog(graph, graph.fqns), tile)
        images, _ = next(iter(task.train_batches.epoch(streams.generator("calibration"))))
        seed_noise_(model, streams.generator("noise"))
        calibrate_input_ranges_(model, lambda net, images=images: net(images))
        if hwa is not None:
            optimizer = build_optimizer(model, spec)
            train(
                model,
                task.train_batches,
                task.loss,
                spec,
                optimizer,
                streams=streams,
                hooks=TrainHooks(after_step=lambda model=model: clip_weights_(model)),
            )
        early, late = evaluate_over_chips(
            model, samples, task.metric, times=[1.0, 86_400.0], n_chips=args.chips, streams=streams.scope("chips")
        )
        digital = evaluate_accuracy(convert_to_digital_(copy.deepcopy(model)), samples, task.metric)
        print(
            f"| {name} | {100 * digital:.1f} | {100 * early.mean:.1f} | {100 * late.mean:.1f} "
            f"[{100 * late.low:.1f}, {100 * late.high:.1f}] | ± {100 * late.std:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
