# SPDX-License-Identifier: Apache-2.0
"""PyTorch's DistributedDataParallel over Gloo, doing the work of rank_contender.cpp.

usage: rank_contender.py WORKLOAD UPDATES RANK WORLD-SIZE PORT
"""

import os
import sys
import time

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

ROWS, WARM_UP, BATCHES = 32, 20, 50


class LanguageModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(1000, 128)
        layer = nn.TransformerEncoderLayer(128, 4, dim_feedforward=512, dropout=0)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(128, 1000)

    def forward(self, tokens):
        return self.head(self.encoder(self.embedding(tokens.t()))).permute(1, 2, 0)


def classes(*shape):
    return torch.randint(10 if len(shape) == 1 else 1000, shape)


def workload(name):
    if name == "mlp":
        net = nn.Sequential(
            nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)
        )
        return net, lambda: (torch.rand(ROWS, 784), classes(ROWS))
    if name == "convolutional":
        net = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(4096, 128), nn.ReLU(), nn.Linear(128, 10),
        )  # fmt: skip
        return net, lambda: (torch.rand(ROWS, 3, 32, 32), classes(ROWS))
    return LanguageModel(), lambda: (classes(ROWS, 64), classes(ROWS, 64))


def main():
    name, updates, rank, size, port = sys.argv[1], *map(int, sys.argv[2:])
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=size)
    torch.manual_seed(0)
    net, draw = workload(name)
    model = DistributedDataParallel(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9)
    loss_function = nn.CrossEntropyLoss()
    batches = [draw() for _ in range(BATCHES)]
    for update in range(WARM_UP + updates):
        if update == WARM_UP:
            begin = time.perf_counter()
        data, target = batches[update % BATCHES]
        loss = loss_function(model(data), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
    if rank == 0:
        print(f"{(time.perf_counter() - begin) / updates * 1e6:.3f}")
    torch.distributed.destroy_process_group()


main()
