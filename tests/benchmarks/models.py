# SPDX-License-Identifier: Apache-2.0
"""The models that are measured and rows for them, the same in models.h."""

import large_models
import torch
from torch import nn


class LanguageModel(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.embedding = nn.Embedding(1000, 128)
        layer = nn.TransformerEncoderLayer(128, 4, dim_feedforward=512, dropout=0)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(128, 1000)

    def forward(self, tokens):
        return self.head(self.encoder(self.embedding(tokens.t()))).permute(1, 2, 0)


def make_model(name, transformer_layers):
    if name == "mlp":
        return nn.Sequential(
            nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)
        )
    if name == "convolutional":
        return nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(4096, 128), nn.ReLU(), nn.Linear(128, 10),
        )  # fmt: skip
    if name == "resnet50":
        return large_models.ResNet50()
    if name == "gpt2":
        return large_models.Gpt2()
    return LanguageModel(transformer_layers)


def draw_rows(name, rows):
    """The data and the target of each row."""
    if name == "transformer":
        return torch.randint(1000, (rows, 64)), torch.randint(1000, (rows, 64))
    if name in ("resnet50", "gpt2"):
        return large_models.draw_rows(name, rows)
    data = torch.rand(rows, 784) if name == "mlp" else torch.rand(rows, 3, 32, 32)
    return data, torch.randint(10, (rows,))
