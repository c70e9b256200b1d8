# SPDX-License-Identifier: Apache-2.0
"""The models that are for a GPU, the same in large_models.h."""

import torch
from torch import nn
from torch.nn import functional

WORDS, LENGTH, WIDTH, HEADS, LAYERS = 50257, 1024, 768, 12, 12


def convolution(inputs, outputs, kernel, stride=1):
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


class Bottleneck(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        outputs = 4 * width
        self.conv1 = convolution(inputs, width, 1)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3, stride)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv3 = convolution(width, outputs, 1)
        self.norm3 = nn.BatchNorm2d(outputs)
        self.is_plain = stride == 1 and inputs == outputs
        if not self.is_plain:
            self.shortcut = convolution(inputs, outputs, 1, stride)
            self.norm4 = nn.BatchNorm2d(outputs)

    def forward(self, x):
        y = functional.relu(self.norm1(self.conv1(x)))
        y = functional.relu(self.norm2(self.conv2(y)))
        y = self.norm3(self.conv3(y))
        return functional.relu(y + (x if self.is_plain else self.norm4(self.shortcut(x))))


class ResNet50(nn.Sequential):
    def __init__(self):
        super().__init__()
        self.add_module("conv", convolution(3, 64, 7, 2))
        self.add_module("norm", nn.BatchNorm2d(64))
        self.add_module("relu", nn.ReLU())
        self.add_module("pool", nn.MaxPool2d(3, stride=2, padding=1))
        inputs, width = 64, 64
        for blocks in (3, 4, 6, 3):
            for i in range(blocks):
                self.append(Bottleneck(inputs, width, 2 if i == 0 and width > 64 else 1))
                inputs = 4 * width
            width *= 2
        self.add_module("mean", nn.AdaptiveAvgPool2d(1))
        self.add_module("flatten", nn.Flatten())
        self.add_module("head", nn.Linear(inputs, 1000))


class Gpt2Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.attend = nn.Linear(WIDTH, 3 * WIDTH)
        self.project = nn.Linear(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.widen = nn.Linear(WIDTH, 4 * WIDTH)
        self.narrow = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        parts = self.attend(self.norm1(x)).chunk(3, -1)
        query, key, value = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in parts)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        y = x + self.project(attended.transpose(1, 2).flatten(2))
        wide = functional.gelu(self.widen(self.norm2(y)), approximate="tanh")
        return y + self.narrow(wide)


class Gpt2(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.places = nn.Embedding(LENGTH, WIDTH)
        for i in range(LAYERS):
            self.add_module(f"block{i}", Gpt2Block())
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, tokens):
        x = self.words(tokens) + self.places.weight[: tokens.size(1)]
        for i in range(LAYERS):
            x = getattr(self, f"block{i}")(x)
        return functional.linear(self.norm(x), self.words.weight).transpose(1, 2)


def draw_rows(name, rows):
    if name == "gpt2":
        return torch.randint(WORDS, (rows, LENGTH)), torch.randint(WORDS, (rows, LENGTH))
    return torch.rand(rows, 3, 224, 224), torch.randint(1000, (rows,))
