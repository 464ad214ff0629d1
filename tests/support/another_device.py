"""Run jobs on a device of their own, which computes on the CPU but is as strict as a GPU, and say whether they found the same.

A process of its own, since PyTorch learns of the device for good: ``python tests/another_device.py OUT``. OUT says for each
job "same", or what went wrong.

The device refuses what a GPU refuses: operations on tensors of several devices, random numbers from another device's generator,
and arrays that share its memory. Since it computes by the CPU's kernels, results must be the same to the last bit.
"""

from __future__ import annotations

import functools
import json
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode

from lionheart.record import Record

NAME = "otherdevice"
_COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
_PLAIN_RESULTS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default)


class Module(backend_registration._DummyBackendModule):
    """What PyTorch asks of a device's module, as ``torch.cuda`` is one."""

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        return [torch.bfloat16]

    @staticmethod
    def _is_in_bad_fork() -> bool:
        return False

    @staticmethod
    def manual_seed_all(seed: int) -> None:
        del seed


class OtherTensor(Tensor):
    """A tensor of the device: the CPU's tensor inside."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> OtherTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=torch.device(NAME, 0),
        )  # fmt: skip
        made.inner = inner
        return made

    def untyped_storage(self) -> Any:
        return self.inner.untyped_storage()  # views share it

    def numpy(self, **kwargs: Any) -> Any:
        raise TypeError(f"can't convert {NAME} tensor to numpy")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


class OtherGenerator(torch.Generator):
    """A generator of any device: the numbers are the CPU's."""

    ours: set[int] = set()  # noqa: RUF012  identities of the device's generators

    def __new__(cls, device: Any = "cpu") -> OtherGenerator:
        made = super().__new__(cls)
        made.place = torch.device(device)
        if made.place.type == NAME:
            cls.ours.add(made._cdata)
        else:
            cls.ours.discard(made._cdata)
        return made

    @property
    def device(self) -> torch.device:
        return self.place


class OtherDevice(TorchDispatchMode):
    """While it is on, ``device="otherdevice"`` works."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


def leaves_of(values: Any) -> list[Any]:
    """Return what lists and tuples of arguments contain; PyTorch's own trees take longer than the operations."""
    found: list[Any] = []
    for each in values:
        found += leaves_of(each) if isinstance(each, (list, tuple)) else [each]
    return found


def change(value: Any, kind: type, function: Callable[[Any], Any]) -> Any:
    """Return `value` with each leaf of a kind changed."""
    if isinstance(value, (list, tuple)):
        return type(value)([change(each, kind, function) for each in value])
    return function(value) if isinstance(value, kind) else value


def compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Compute one operation on the CPU; its results are the device's if its inputs are, or if they are wanted there."""
    leaves = leaves_of((args, tuple(kwargs.values())))
    tensors = [each for each in leaves if isinstance(each, Tensor)]
    ours = [each for each in tensors if isinstance(each, OtherTensor)]
    wanted = kwargs.get("device")
    is_made_here = bool(ours) if wanted is None else torch.device(wanted).type == NAME
    if func is torch.ops.aten.copy_.default:
        is_made_here = isinstance(args[0], OtherTensor)
    if ours and func not in _COPIES:
        for each in tensors:
            if not isinstance(each, OtherTensor) and each.dim() > 0:
                raise RuntimeError(
                    f"expected all tensors on one device: {func} got {tuple(each.shape)} on {each.device}"
                )
    for each in leaves:
        if isinstance(each, torch.Generator) and (each._cdata in OtherGenerator.ours) != is_made_here:
            raise RuntimeError(f"expected a generator of the device: {func}")
    known = {id(each.inner): each for each in ours}
    if ours:
        args = change(args, OtherTensor, lambda each: each.inner)
        kwargs = {key: change(each, OtherTensor, lambda each: each.inner) for key, each in kwargs.items()}
    if wanted is not None and torch.device(wanted).type == NAME:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    found = func(*args, **kwargs)
    if not is_made_here or func in _PLAIN_RESULTS:
        return found
    return change(found, Tensor, lambda each: known[id(each)] if id(each) in known else OtherTensor(each))


# ------------------------------------------------------------------------------------------------------------ the jobs


def map_and_evaluate(task: Any, folder: Path, **changes: Any) -> Any:
    from quadrants import make_settings

    from lionheart.jobs import evaluate_run, map_layers

    run = folder / "run"
    changes["search"] = {"report_times": [1.0], **changes.get("search", {})}
    changes["train"] = {"max_epochs": 1, "steps_per_epoch": 2, **changes.get("train", {})}
    mapped = map_layers(task, make_settings(**changes), run_dir=run).results
    return mapped, evaluate_run(task, run, times=[1.0], n_chips=2, split="test", n_samples=40)


def profile(task: Any, folder: Path) -> Any:
    from quadrants import make_settings

    from lionheart.jobs import profile_layers

    return profile_layers(task, make_settings(), times=[1.0], n_chips=2, n_samples=40, out=folder / "profile.json")


def find_front(task: Any, folder: Path) -> Any:
    from quadrants import make_settings

    from lionheart.experimental.pareto.job import find_pareto_front

    settings = make_settings(search={"n_chips": 1}, pareto={"n_trials": 3, "bounds_pp": [50.0]})
    return find_pareto_front(task, settings, run_dir=folder / "front").results


def train(task: Any, folder: Path) -> Any:
    import torch.nn.functional as F

    from lionheart.rng import RandomStreams
    from lionheart.training import TrainSpec, build_optimizer, load_weights, save_weights, train

    spec = TrainSpec(max_epochs=2, steps_per_epoch=3, patience=None, gradient_clip=1.0)
    model = task.model
    trace = train(model, task.train, F.cross_entropy, spec, build_optimizer(model, spec), streams=RandomStreams(0))
    save_weights(folder / "w.safetensors", model)
    load_weights(folder / "w.safetensors", model)
    return trace.losses, [each.cpu().tolist() for each in model.state_dict().values()]


class ManyKinds(nn.Module):
    """Transposed, depthwise and grouped convolutions, attention by itself and in a layer; an LSTM if wanted."""

    def __init__(self, has_lstm: bool) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 8, 2, stride=2)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, stride=2)
        self.grouped = nn.Conv2d(8, 16, 3, groups=2, stride=2)
        self.recurrent = nn.LSTM(16, 16, batch_first=True) if has_lstm else None
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.grouped(self.depthwise(self.up(x)).relu()).flatten(2).transpose(1, 2)
        x = x if self.recurrent is None else self.recurrent(x)[0]
        x = self.encoder(x + self.attention(x, x, x)[0])
        return self.fc(x.mean(dim=1))


def with_many_kinds(task: Any, *, has_lstm: bool = False) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return replace(task, model=ManyKinds(has_lstm).to(task.device))


def map_many_kinds(task: Any, folder: Path) -> Any:
    tile = {"column_calibration": "affine", "drift_compensation": "per_column"}
    search = {"strategy": "all-analog", "max_drop_pp": 99.0}
    return map_and_evaluate(with_many_kinds(task), folder, search=search, tile=tile)


def trace_many_kinds(task: Any, folder: Path) -> Any:
    from lionheart.record import write_record

    return write_record(with_many_kinds(task, has_lstm=True).trace())


_NOISY = {"column_calibration": "affine", "hwa": {"weight_noise_kind": "device", "weight_clip_sigma": 2.0}}
_TWO = {"exclude": ["0"]}  # the job "lionheart" tries all three projections
JOBS: dict[str, Callable[[Any, Path], Any]] = {
    "lionheart": map_and_evaluate,
    "shared": functools.partial(
        map_and_evaluate, search={"strategy": "shared", **_TWO}, tile=_NOISY, train={"distillation": 0.5}
    ),
    "hessian": functools.partial(map_and_evaluate, search={"strategy": "hessian"}),
    "promise": functools.partial(
        map_and_evaluate, search={"strategy": "training-free", "confidence_level": 0.8, "chip_yield": 0.6, "n_chips": 4}
    ),
    "corrections": functools.partial(
        map_and_evaluate, search={"tune_compensation": True, "refresh_interval": True, **_TWO}
    ),
    "dynamic ranges": functools.partial(map_and_evaluate, search=_TWO, tile={"input_range": "dynamic", "ir_drop": 1.0}),
    "learned ranges": functools.partial(
        map_and_evaluate, search=_TWO, tile={"input_range": "learned", "bound_management": "iterative"}
    ),
    "profile": profile,
    "front": find_front,
    "train": train,
    "many kinds": map_many_kinds,
    "trace": trace_many_kinds,
}


def without_times(data: Any) -> Any:
    """Return records as plain data without what two runs never have in common."""
    if isinstance(data, Record):
        return without_times(data.to_json())
    if isinstance(data, dict):
        return {key: without_times(value) for key, value in data.items() if not key.endswith("_s") and key != "created"}
    return [without_times(each) for each in data] if isinstance(data, (list, tuple)) else data


def compare(job: Callable[[Any, Path], Any]) -> str:
    """Run a job on the CPU and on the other device; return "same" or what went wrong."""
    from quadrants import build_task

    found = []
    for device in ("cpu", NAME):
        math = sdpa_kernel(SDPBackend.MATH)  # the CPU has kernels for attention that round in their own way
        with tempfile.TemporaryDirectory() as folder, OtherDevice(), math:
            task = build_task()
            task.model.to(device)
            try:
                found.append(json.loads(json.dumps(without_times(job(task, Path(folder))))))
            except Exception:
                return f"on {device}:\n{traceback.format_exc()}"
    return "same" if found[0] == found[1] else f"on the CPU {found[0]}, on the other device {found[1]}"


def main() -> None:
    torch.set_num_threads(1)
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=Module())
    torch.Generator = OtherGenerator
    Path(sys.argv[1]).write_text(json.dumps({name: compare(job) for name, job in JOBS.items()}), encoding="utf-8")


if __name__ == "__main__":
    main()
