# SPDX-License-Identifier: Apache-2.0
"""Which contenders are measured, and in what kind of process: the rows of compare.py's tables."""

import os
from typing import NamedTuple

LARGE_MODELS = ("resnet50", "gpt2")  # for a GPU
LIBRARIES = (
    "PyTorch",
    "torch-compile",
    "pytorch-accelerated",
    "pytorch-accelerated-without-bar",
    "accelerate",
    "lightning",
    "lightning-without-bar",
    "ignite",
)


class Kind(NamedTuple):
    """Of a process."""

    language: str
    threads: int
    terminal: bool


class Row(NamedTuple):
    kind: Kind
    contender: str
    data: str

    def baseline(self, contender="hand-written"):
        return Row(self.kind._replace(language="C++"), contender, self.data)

    def fused_baseline(self):
        """That of Trainers, which step by ATen's fused kernels."""
        return self.baseline("hand-written-fused")

    def is_trainer(self):
        return self.contender.startswith("Trainer")


def rows_of(kind, contenders, data_paths):
    return [Row(kind, c, data) for c in contenders for data in data_paths]


def rows_of_mlp_alone(with_python):
    """LibTorch's own loader, and what drawing the bar costs."""
    plain, terminal = Kind("C++", 1, False), Kind("C++", 1, True)
    data_paths = ("premade", "dataset")
    rows = [Row(plain, "torch::data", "dataset")]
    rows += rows_of(terminal, ("hand-written", "hand-written-fused", "Trainer"), data_paths)
    if with_python:
        rows += rows_of(
            terminal._replace(language="Python"), ("pytorch-accelerated",), data_paths
        )
    return rows


def rows_on_gpu(with_python):
    """With one thread of the host; batches are on the GPU, and the loss is read in the end."""
    kind = Kind("C++", 1, False)
    contenders = ("hand-written", "hand-written-fused", "Trainer", "Trainer-fastest")
    rows = rows_of(kind, contenders, ("premade",))
    if with_python:
        libraries = ("PyTorch-fastest", *LIBRARIES)
        rows += rows_of(kind._replace(language="Python"), libraries, ("premade",))
    return rows


def all_rows(model, with_python):
    by_hand = ["hand-written", "hand-written-fused"]
    trainers = ["Trainer"]
    data_paths = ("premade", "dataset")
    if model in ("mlp", "convolutional"):
        trainers.append("Trainer-fastest")  # which has no option more with the others
    if model in ("convolutional", "transformer"):
        trainers.append("Trainer-bf16")
    if model != "mlp":
        data_paths = ("premade",)
    rows = []
    for threads in (1, 2)[: os.cpu_count()]:
        kind = Kind("C++", threads, False)
        rows += rows_of(kind, by_hand, data_paths)
        # A Trainer has the C library keep the memory of large tensors, for the whole process, and a
        # loop by hand doesn't. The MLP's are small, and its differences, too, which are only seen
        # within a process.
        own = kind if model == "mlp" else kind._replace(language="C++, Trainer")
        rows += rows_of(own, trainers, data_paths)
        if with_python:
            rows += rows_of(kind._replace(language="Python"), LIBRARIES, data_paths)
    return rows + (rows_of_mlp_alone(with_python) if model == "mlp" else [])
