// SPDX-License-Identifier: Apache-2.0
// The models that are for a GPU, the same in large_models.py.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <vector>

namespace benchmarks {

inline torch::nn::Conv2d convolution(std::int64_t in, std::int64_t out, std::int64_t kernel,
                                     std::int64_t stride = 1) {
  return torch::nn::Conv2d(
      torch::nn::Conv2dOptions(in, out, kernel).stride(stride).padding(kernel / 2).bias(false));
}

/// He et al., "Deep Residual Learning for Image Recognition", 2016, with the stride in the 3x3
/// convolution, as PyTorch's has it.
struct BottleneckImpl : torch::nn::Module {
  BottleneckImpl(std::int64_t in, std::int64_t width, std::int64_t stride) {
    const auto out = 4 * width;
    conv1 = register_module("conv1", convolution(in, width, 1));
    norm1 = register_module("norm1", torch::nn::BatchNorm2d(width));
    conv2 = register_module("conv2", convolution(width, width, 3, stride));
    norm2 = register_module("norm2", torch::nn::BatchNorm2d(width));
    conv3 = register_module("conv3", convolution(width, out, 1));
    norm3 = register_module("norm3", torch::nn::BatchNorm2d(out));
    if (stride == 1 && in == out) return;
    shortcut = register_module("shortcut", convolution(in, out, 1, stride));
    norm4 = register_module("norm4", torch::nn::BatchNorm2d(out));
  }

  torch::Tensor forward(const torch::Tensor& x) {
    auto y = torch::relu(norm1->forward(conv1->forward(x)));
    y = torch::relu(norm2->forward(conv2->forward(y)));
    y = norm3->forward(conv3->forward(y));
    return torch::relu(y + (shortcut ? norm4->forward(shortcut->forward(x)) : x));
  }

  torch::nn::Conv2d conv1{nullptr}, conv2{nullptr}, conv3{nullptr}, shortcut{nullptr};
  torch::nn::BatchNorm2d norm1{nullptr}, norm2{nullptr}, norm3{nullptr}, norm4{nullptr};
};
TORCH_MODULE(Bottleneck);

inline torch::nn::Sequential make_resnet50() {
  torch::nn::Sequential net;
  net->push_back("conv", convolution(3, 64, 7, 2));
  net->push_back("norm", torch::nn::BatchNorm2d(64));
  net->push_back("relu", torch::nn::ReLU());
  net->push_back("pool", torch::nn::MaxPool2d(torch::nn::MaxPool2dOptions(3).stride(2).padding(1)));
  std::int64_t in = 64;
  std::int64_t width = 64;
  for (const std::int64_t blocks : {3, 4, 6, 3}) {
    for (std::int64_t i = 0; i < blocks; ++i) {
      net->push_back(Bottleneck(in, width, i == 0 && width > 64 ? 2 : 1));
      in = 4 * width;
    }
    width *= 2;
  }
  net->push_back("mean", torch::nn::AdaptiveAvgPool2d(1));
  net->push_back("flatten", torch::nn::Flatten());
  net->push_back("head", torch::nn::Linear(in, 1000));
  return net;
}

constexpr std::int64_t kGpt2Words = 50257;
constexpr std::int64_t kGpt2Length = 1024;
constexpr std::int64_t kGpt2Width = 768;
constexpr std::int64_t kGpt2Heads = 12;
constexpr std::int64_t kGpt2Layers = 12;

struct Gpt2BlockImpl : torch::nn::Module {
  Gpt2BlockImpl() {
    const torch::nn::LayerNormOptions options({kGpt2Width});
    norm1 = register_module("norm1", torch::nn::LayerNorm(options));
    attend = register_module("attend", torch::nn::Linear(kGpt2Width, 3 * kGpt2Width));
    project = register_module("project", torch::nn::Linear(kGpt2Width, kGpt2Width));
    norm2 = register_module("norm2", torch::nn::LayerNorm(options));
    widen = register_module("widen", torch::nn::Linear(kGpt2Width, 4 * kGpt2Width));
    narrow = register_module("narrow", torch::nn::Linear(4 * kGpt2Width, kGpt2Width));
  }

  torch::Tensor forward(const torch::Tensor& x) {  // (rows, length, width)
    const auto parts = attend->forward(norm1->forward(x)).chunk(3, -1);
    const auto heads = [&](const torch::Tensor& part) {
      return part.unflatten(-1, {kGpt2Heads, -1}).transpose(1, 2);
    };
    const auto attended = torch::scaled_dot_product_attention(
        heads(parts[0]), heads(parts[1]), heads(parts[2]), /*attn_mask=*/{}, /*dropout_p=*/0,
        /*is_causal=*/true);
    const auto y = x + project->forward(attended.transpose(1, 2).flatten(2));
    return y + narrow->forward(torch::gelu(widen->forward(norm2->forward(y)), "tanh"));
  }

  torch::nn::LayerNorm norm1{nullptr}, norm2{nullptr};
  torch::nn::Linear attend{nullptr}, project{nullptr}, widen{nullptr}, narrow{nullptr};
};
TORCH_MODULE(Gpt2Block);

/// Of the size of GPT-2 small: Radford et al., "Language Models are Unsupervised Multitask
/// Learners", 2019; without dropout.
struct Gpt2Impl : torch::nn::Module {
  Gpt2Impl() {
    words = register_module("words", torch::nn::Embedding(kGpt2Words, kGpt2Width));
    places = register_module("places", torch::nn::Embedding(kGpt2Length, kGpt2Width));
    for (std::int64_t i = 0; i < kGpt2Layers; ++i) {
      blocks.push_back(register_module("block" + std::to_string(i), Gpt2Block()));
    }
    norm = register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({kGpt2Width})));
  }

  torch::Tensor forward(const torch::Tensor& tokens) {  // (rows, length) -> (rows, words, length)
    auto x = words->forward(tokens) + places->weight.narrow(0, 0, tokens.size(1));
    for (auto& block : blocks) x = block->forward(x);
    return torch::linear(norm->forward(x), words->weight).transpose(1, 2);
  }

  torch::nn::Embedding words{nullptr}, places{nullptr};
  std::vector<Gpt2Block> blocks;
  torch::nn::LayerNorm norm{nullptr};
};
TORCH_MODULE(Gpt2);

}  // namespace benchmarks
