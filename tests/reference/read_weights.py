#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads a model's weights with Python's safetensors and PyTorch, and compares its logits.

usage: read_weights.py WEIGHTS EXPECTED

WEIGHTS holds the parameters of Sequential(Linear, ReLU, Linear, ReLU, Linear), EXPECTED "data" and the
"logits" that the library's model gave for them. Prints the largest difference; ends with 1 where it is
above 1e-5 of the largest logit.
"""

import sys

import safetensors.torch
import torch


def main():
    weights = safetensors.torch.load_file(sys.argv[1])
    expected = safetensors.torch.load_file(sys.argv[2])
    sizes = [weights[f"{i}.weight"].shape for i in (0, 2, 4)]
    layers = [torch.nn.Linear(columns, rows) for rows, columns in sizes]
    model = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])
    model.load_state_dict(weights)
    with torch.no_grad():
        logits = model(expected["data"])
    difference = (logits - expected["logits"]).abs().max().item()
    print(f"largest difference {difference:g}, torch {torch.__version__}, safetensors {safetensors.__version__}")
    return 0 if difference <= 1e-5 * expected["logits"].abs().max().item() else 1


if __name__ == "__main__":
    sys.exit(main())
