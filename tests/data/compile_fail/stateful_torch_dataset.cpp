// SPDX-License-Identifier: Apache-2.0
#include <torch/data/datasets/stateful.h>

#include "torch_accelerated/data/torch_dataset.h"

struct Stream : torch::data::datasets::StatefulDataset<Stream> {
  std::optional<std::vector<torch::data::Example<>>> get_batch(std::size_t) override { return {}; }
  std::optional<std::size_t> size() const override { return {}; }
  void reset() override {}
  void save(torch::serialize::OutputArchive&) const override {}
  void load(torch::serialize::InputArchive&) override {}
};

// Must not compile, and say why.
void adapt() { torch_accelerated::torch_dataset(Stream()); }
