// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/accelerator/seed_scope.h"

#include <torch/torch.h>

#include <utility>
#include <vector>

#include "accelerator/random_state.h"

namespace torch_accelerated {

struct SeedScope::Saved {
  std::vector<std::pair<at::Generator, torch::Tensor>> states;
};

SeedScope::SeedScope(std::uint64_t seed) : saved_(std::make_unique<Saved>()) {
  for (auto& generator : default_generators()) {
    const std::lock_guard<std::mutex> lock(generator.mutex());
    saved_->states.emplace_back(generator, generator.get_state());
    generator.set_current_seed(seed);
  }
}

void SeedScope::reseed(std::uint64_t seed) {
  for (auto& [generator, state] : saved_->states) {
    const std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_current_seed(seed);
  }
}

SeedScope::~SeedScope() {
  for (auto& [generator, state] : saved_->states) {
    const std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_state(state);
  }
}

}  // namespace torch_accelerated
