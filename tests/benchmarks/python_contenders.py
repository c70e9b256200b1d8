# SPDX-License-Identifier: Apache-2.0
"""The contenders in Python: PyTorch's plain loop and pytorch-accelerated.

Speaks the protocol of contenders_main.cpp and does the same work: the same rows, the same weights
to begin with, and the clock read at the same place.
"""

import json
import os
import statistics
import sys
import time
from importlib.metadata import version

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

BATCH_SIZE = 32


class Work:
    def __init__(self, warm_up, updates):
        self.warm_up = warm_up
        self.updates = updates
        self.total = warm_up + updates + 1
        rows = self.total * BATCH_SIZE
        torch.manual_seed(0)
        self.data = torch.rand(rows, 28 * 28)
        self.target = torch.randint(10, (rows,))

    def premade(self):
        return list(zip(self.data.split(BATCH_SIZE), self.target.split(BATCH_SIZE)))

    def dataset(self):
        return TensorDataset(self.data, self.target)


class Clock:
    def __init__(self, work):
        self.warm_up = work.warm_up
        self.ticks = []

    def tick(self):
        self.ticks.append(time.monotonic_ns())

    def updates(self):
        timed = self.ticks[self.warm_up :]
        return [after - before for before, after in zip(timed, timed[1:])]


class Network:
    def __init__(self):
        self.model = nn.Sequential(
            nn.Linear(28 * 28, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)
        )
        # LibTorch and PyTorch draw the weights of a new layer differently, so they are drawn again.
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.uniform_(-0.05, 0.05)
        self.loss_function = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.001, momentum=0.9)


def pytorch(work, data_path):
    network, clock = Network(), Clock(work)
    model, loss_function, optimizer = network.model, network.loss_function, network.optimizer
    if data_path == "premade":
        batches = work.premade()
    else:
        batches = DataLoader(work.dataset(), batch_size=BATCH_SIZE, shuffle=True)
    loss_sum = 0.0
    for data, target in batches:
        clock.tick()
        loss = loss_function(model(data), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss_sum += loss.item()
    return clock, loss_sum / work.total


def pytorch_accelerated(work, data_path, bar=True):
    # Imported here, so that a process of the plain loop has nothing of it.
    from pytorch_accelerated import Trainer
    from pytorch_accelerated.callbacks import ProgressBarCallback
    from pytorch_accelerated.trainer import DEFAULT_CALLBACKS

    network, clock = Network(), Clock(work)

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
        callbacks=[c for c in DEFAULT_CALLBACKS if bar or c is not ProgressBarCallback],
    )
    # Without workers of its own, as all others.
    trainer.train(
        work.dataset(),
        num_epochs=1,
        per_device_batch_size=BATCH_SIZE,
        train_dataloader_kwargs={"num_workers": 0},
    )
    return clock, trainer.run_history.get_latest_metric("train_loss_epoch")


CONTENDERS = {
    "PyTorch": pytorch,
    "pytorch-accelerated": pytorch_accelerated,
    "pytorch-accelerated-without-bar": lambda *args: pytorch_accelerated(*args, bar=False),
}


def peak_kib():
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def versions():
    packages = ("torch", "pytorch-accelerated", "accelerate")
    found = {"Python": sys.version.split()[0], **{name: version(name) for name in packages}}
    return found | {"threads": torch.get_num_threads()}


def main():
    replies = os.fdopen(int(sys.argv[1]), "w", buffering=1)
    work = None
    for line in sys.stdin:
        if line == "versions\n":
            print(json.dumps(versions()), file=replies)
            continue
        contender, data_path, warm_up, updates = line.split()
        if work is None or (work.warm_up, work.updates) != (int(warm_up), int(updates)):
            work = Work(int(warm_up), int(updates))
        clock, loss = CONTENDERS[contender](work, data_path)
        outcome = {
            "mean_ns": statistics.fmean(clock.updates()),
            "median_ns": statistics.median(clock.updates()),
            "loss": loss,
            "first_update_ns": clock.ticks[1],
            "peak_kib": peak_kib(),
        }
        print(json.dumps(outcome), file=replies)


main()
