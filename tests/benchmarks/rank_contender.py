# SPDX-License-Identifier: Apache-2.0
"""PyTorch's DistributedDataParallel over Gloo, doing the work of rank_contender.cpp.

usage: rank_contender.py MODEL UPDATES RANK WORLD-SIZE PORT
"""

import os
import sys
import time

import torch
from models import draw_rows, make_model
from torch import nn
from torch.nn.parallel import DistributedDataParallel

ROWS, WARM_UP, BATCHES, LAYERS = 32, 20, 50, 2


def main():
    name, updates, rank, size, port = sys.argv[1], *map(int, sys.argv[2:])
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=size)
    torch.manual_seed(0)
    net = make_model(name, LAYERS)
    model = DistributedDataParallel(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9)
    loss_function = nn.CrossEntropyLoss()
    batches = [draw_rows(name, ROWS) for _ in range(BATCHES)]
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
