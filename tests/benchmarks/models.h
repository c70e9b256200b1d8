// SPDX-License-Identifier: Apache-2.0
// The models that are measured and rows for them, the same in models.py.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "large_models.h"
#include "support/mnist_mlp.h"

namespace benchmarks {

enum class Model {
  kMlp,            ///< of the MNIST example
  kConvolutional,  ///< for images of 3 x 32 x 32
  kTransformer,    ///< an encoder of sequences of 64 tokens
  kResNet50,       ///< for images of 3 x 224 x 224
  kGpt2,           ///< of sequences of 1024 tokens
};

inline Model model_named(const std::string& name) {
  if (name == "mlp") return Model::kMlp;
  if (name == "convolutional") return Model::kConvolutional;
  if (name == "transformer") return Model::kTransformer;
  if (name == "resnet50") return Model::kResNet50;
  if (name == "gpt2") return Model::kGpt2;
  throw std::invalid_argument("there is no model " + name);
}

inline torch::nn::Sequential make_convolutional() {
  using torch::nn::Conv2d;
  using torch::nn::Conv2dOptions;
  return torch::nn::Sequential(Conv2d(Conv2dOptions(3, 32, 3).padding(1)), torch::nn::ReLU(),
                               Conv2d(Conv2dOptions(32, 64, 3).padding(1)), torch::nn::ReLU(),
                               torch::nn::MaxPool2d(2), Conv2d(Conv2dOptions(64, 64, 3).padding(1)),
                               torch::nn::ReLU(), torch::nn::MaxPool2d(2), torch::nn::Flatten(),
                               torch::nn::Linear(4096, 128), torch::nn::ReLU(),
                               torch::nn::Linear(128, 10));
}

struct LanguageModelImpl : torch::nn::Module {
  torch::nn::Embedding embedding{nullptr};
  torch::nn::TransformerEncoder encoder{nullptr};
  torch::nn::Linear head{nullptr};

  explicit LanguageModelImpl(std::int64_t layers) {
    using LayerOptions = torch::nn::TransformerEncoderLayerOptions;
    const auto layer = LayerOptions(128, 4).dim_feedforward(512).dropout(0);
    embedding = register_module("embedding", torch::nn::Embedding(1000, 128));
    encoder = register_module("encoder", torch::nn::TransformerEncoder(
                                             torch::nn::TransformerEncoderLayer(layer), layers));
    head = register_module("head", torch::nn::Linear(128, 1000));
  }

  torch::Tensor forward(const torch::Tensor& tokens) {  // (rows, length) -> (rows, 1000, length)
    const auto hidden = encoder->forward(embedding->forward(tokens.t()));
    return head->forward(hidden).permute({1, 2, 0});
  }
};
TORCH_MODULE(LanguageModel);

inline torch::nn::Sequential make_model(Model model, std::int64_t transformer_layers) {
  if (model == Model::kMlp) return examples::make_mnist_mlp();
  if (model == Model::kConvolutional) return make_convolutional();
  if (model == Model::kResNet50) return make_resnet50();
  if (model == Model::kGpt2) return torch::nn::Sequential(Gpt2());
  return torch::nn::Sequential(LanguageModel(transformer_layers));
}

/// What a model is trained on.
struct Rows {
  torch::Tensor data;
  torch::Tensor target;  // int64
};

inline Rows draw_rows(Model model, std::int64_t rows) {
  if (model == Model::kTransformer) {
    const auto tokens = torch::randint(1000, {rows, 64}, torch::kInt64);
    return {tokens, torch::randint(1000, {rows, 64}, torch::kInt64)};
  }
  if (model == Model::kGpt2) {
    const auto tokens = torch::randint(kGpt2Words, {rows, kGpt2Length}, torch::kInt64);
    return {tokens, torch::randint(kGpt2Words, {rows, kGpt2Length}, torch::kInt64)};
  }
  if (model == Model::kResNet50) {
    const auto images = torch::rand({rows, 3, 224, 224});
    return {images, torch::randint(1000, {rows}, torch::kInt64)};
  }
  const auto data =
      model == Model::kMlp ? torch::rand({rows, 784}) : torch::rand({rows, 3, 32, 32});
  return {data, torch::randint(10, {rows}, torch::kInt64)};
}

}  // namespace benchmarks
