# SPDX-License-Identifier: Apache-2.0
"""The contenders in Python: PyTorch's plain loop, and libraries that run a loop.

usage: python_contenders.py MODEL DEVICE REPLIES

Speaks the protocol of contenders_main.cpp and does the same work: the same rows, the same weights
to begin with, and the clock read at the same place. Where a contender doesn't run, the reply says
why. Each library is imported where it is used, so that a process of another has nothing of it.
"""

import argparse
import contextlib
import gc
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
import traceback
from importlib.metadata import PackageNotFoundError, version

import torch
from models import draw_rows, make_model
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

BATCH_SIZES = {"mlp": 32, "convolutional": 64, "transformer": 16, "resnet50": 64, "gpt2": 8}
LARGE_MODELS = ("resnet50", "gpt2")  # in bf16; a few batches come again in turn
LARGE_MODELS_BATCHES = 8
TRANSFORMER_LAYERS = 4
PACKAGES = ("torch", "pytorch-accelerated", "accelerate", "lightning", "pytorch-ignite")


class Premade:
    """Batches that are there before the clock starts; to Lightning a list is several loaders."""

    def __init__(self, data, target):
        self.batches = list(zip(data, target))

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


class Work:
    def __init__(self, model, warm_up, updates, device):
        self.model = model
        self.warm_up = warm_up
        self.updates = updates
        self.total = warm_up + updates + 1
        self.batch_size = BATCH_SIZES[model]
        self.device = device
        self.is_bf16 = model in LARGE_MODELS
        batches = min(self.total, LARGE_MODELS_BATCHES) if self.is_bf16 else self.total
        torch.manual_seed(0)
        data, target = draw_rows(model, batches * self.batch_size)
        self.data, self.target = data.to(device), target.to(device)

    def autocast(self):
        if not self.is_bf16:
            return contextlib.nullcontext()
        return torch.autocast(self.device, torch.bfloat16)

    def premade(self):
        parts = (t.split(self.batch_size) for t in (self.data, self.target))
        turns = (itertools.islice(itertools.cycle(part), self.total) for part in parts)
        return Premade(*turns)

    def dataset(self):
        return TensorDataset(self.data, self.target)

    def loader(self):
        return DataLoader(self.dataset(), batch_size=self.batch_size, shuffle=True)

    def batches(self, data_path):
        return self.premade() if data_path == "premade" else self.loader()


class Clock:
    """A GPU is waited for where the timed updates begin and end; there only their mean counts."""

    def __init__(self, work):
        self.warm_up = work.warm_up
        self.waits_at = (work.warm_up, work.total - 1) if work.device == "cuda" else ()
        self.ticks = []

    def tick(self):
        if len(self.ticks) in self.waits_at:
            torch.cuda.synchronize()
        self.ticks.append(time.monotonic_ns())

    def updates(self):
        timed = self.ticks[self.warm_up :]
        return [after - before for before, after in zip(timed, timed[1:])]


class LossSum:
    """Of a loop that is written by hand: read in each update, or on a GPU in the end."""

    def __init__(self):
        self.value = 0.0

    def add(self, loss):
        self.value += loss.item() if loss.is_cpu else loss.detach()

    def mean(self, work):
        return float(self.value) / work.total


class Network:
    def __init__(self, work, fastest=False):
        self.model = make_model(work.model, TRANSFORMER_LAYERS)
        # LibTorch and PyTorch draw the weights of a new layer differently, so they are drawn again,
        # but for those of norms, which would hide what is before them.
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter_name, parameter in self.model.named_parameters():
                if "norm" not in parameter_name:
                    parameter.uniform_(-0.05, 0.05)
        self.model.to(work.device)
        if fastest and work.model == "resnet50":
            self.model.to(memory_format=torch.channels_last)
        self.loss_function = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=0.001, momentum=0.9, fused=True if fastest else None
        )


def pytorch(work, data_path, compiled=False, fastest=False):
    network, clock = Network(work, fastest), Clock(work)
    model, loss_function, optimizer = network.model, network.loss_function, network.optimizer
    if compiled:
        model = torch.compile(model)
    loss_sum = LossSum()
    for data, target in work.batches(data_path):
        clock.tick()
        with work.autocast():
            loss = loss_function(model(data), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss_sum.add(loss)
    return clock, loss_sum.mean(work)


def pytorch_accelerated(work, data_path, as_it_comes=True):
    from pytorch_accelerated import Trainer
    from pytorch_accelerated.callbacks import ProgressBarCallback
    from pytorch_accelerated.trainer import DEFAULT_CALLBACKS

    network, clock = Network(work), Clock(work)
    if work.is_bf16:
        os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16"

    class ClockedTrainer(Trainer):
        def calculate_train_batch_loss(self, batch):
            clock.tick()
            return super().calculate_train_batch_loss(batch)

        def _run_train_epoch(self, train_dl):
            return super()._run_train_epoch(
                work.premade() if data_path == "premade" else train_dl
            )

    trainer = ClockedTrainer(
        network.model,
        network.loss_function,
        network.optimizer,
        callbacks=[c for c in DEFAULT_CALLBACKS if as_it_comes or c is not ProgressBarCallback],
    )
    # As it comes, its loader has a worker process for each core.
    trainer.train(
        work.dataset(),
        num_epochs=1,
        per_device_batch_size=work.batch_size,
        train_dataloader_kwargs={} if as_it_comes else {"num_workers": 0},
    )
    return clock, trainer.run_history.get_latest_metric("train_loss_epoch")


def accelerate(work, data_path):
    from accelerate import Accelerator

    network, clock = Network(work), Clock(work)
    accelerator = Accelerator(mixed_precision="bf16" if work.is_bf16 else "no")
    model, optimizer = accelerator.prepare(network.model, network.optimizer)
    batches = work.batches(data_path)
    if data_path == "dataset":
        batches = accelerator.prepare(batches)
    loss_sum = LossSum()
    for data, target in batches:
        clock.tick()
        with accelerator.autocast():
            loss = network.loss_function(model(data), target)
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        loss_sum.add(loss)
    return clock, loss_sum.mean(work)


def lightning(work, data_path, bar=True):
    import lightning.pytorch

    network, clock = Network(work), Clock(work)

    class Module(lightning.pytorch.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = network.model

        def training_step(self, batch, _):
            clock.tick()
            data, target = batch
            loss = network.loss_function(self.model(data), target)
            self.log("train_loss", loss, on_epoch=True)
            return loss

        def configure_optimizers(self):
            return network.optimizer

    parts = ("progress_bar", "model_summary", "checkpointing")
    quiet = {} if bar else {"logger": False} | {f"enable_{part}": False for part in parts}
    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.pytorch.Trainer(
            accelerator="gpu" if work.device == "cuda" else "cpu",
            devices=1,
            max_epochs=1,
            precision="bf16-mixed" if work.is_bf16 else "32-true",
            default_root_dir=folder,
            **quiet,
        )
        trainer.fit(Module(), work.batches(data_path))
    return clock, trainer.callback_metrics["train_loss_epoch"].item()


def ignite(work, data_path):
    from ignite.engine import Events, create_supervised_trainer

    network, clock = Network(work), Clock(work)
    losses = []

    def forward(model, data):
        clock.tick()
        with work.autocast():
            return model(data)

    trainer = create_supervised_trainer(
        network.model, network.optimizer, network.loss_function, work.device, model_fn=forward
    )
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: losses.append(engine.state.output)
    )
    trainer.run(work.batches(data_path), max_epochs=1)
    return clock, statistics.fmean(losses)


CONTENDERS = {
    "PyTorch": pytorch,
    "PyTorch-fastest": lambda *args: pytorch(*args, fastest=True),
    "torch-compile": lambda *args: pytorch(*args, compiled=True),
    "pytorch-accelerated": pytorch_accelerated,
    "pytorch-accelerated-without-bar": lambda *args: pytorch_accelerated(*args, as_it_comes=False),
    "accelerate": accelerate,
    "lightning": lightning,
    "lightning-without-bar": lambda *args: lightning(*args, bar=False),
    "ignite": ignite,
}


def peak_kib():
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def versions():
    found = {"Python": sys.version.split()[0]}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found | {"threads": torch.get_num_threads()}


def outcome_of(contender, work, data_path):
    # Objects of contenders before are no garbage to look through in this one's time.
    gc.collect()
    gc.freeze()
    try:
        clock, loss = CONTENDERS[contender](work, data_path)
    except Exception as error:  # whatever keeps a library from running here
        traceback.print_exc()
        lines = str(error).strip().splitlines()
        return {"error": ": ".join([type(error).__name__, *lines[:1]])}
    return {
        "mean_ns": statistics.fmean(clock.updates()),
        "median_ns": statistics.median(clock.updates()),
        "loss": loss,
        "first_update_ns": clock.ticks[1],
        "peak_kib": peak_kib(),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", choices=BATCH_SIZES)
    parser.add_argument("device", choices=("cpu", "cuda"))
    parser.add_argument("replies", type=int)
    options = parser.parse_args()
    replies = os.fdopen(options.replies, "w", buffering=1)
    work = None
    for line in sys.stdin:
        if line == "versions\n":
            print(json.dumps(versions()), file=replies)
            continue
        contender, data_path, warm_up, updates = line.split()
        if work is None or (work.warm_up, work.updates) != (int(warm_up), int(updates)):
            work = Work(options.model, int(warm_up), int(updates), options.device)
        print(json.dumps(outcome_of(contender, work, data_path)), file=replies)


main()
