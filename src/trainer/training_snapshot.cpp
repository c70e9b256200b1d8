// SPDX-License-Identifier: Apache-2.0
#include "trainer/training_snapshot.h"

#include <sstream>
#include <unordered_set>

#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

using ParamState = torch::optim::OptimizerParamState;

torch::Tensor copy_of(const torch::Tensor& tensor) {
  return tensor.defined() ? tensor.detach().clone() : tensor;
}

void copy_tensors(torch::optim::SGDParamState& state) {
  state.momentum_buffer(copy_of(state.momentum_buffer()));
}

template <class AdamState>
  requires requires(AdamState& state) { state.max_exp_avg_sq(); }
void copy_tensors(AdamState& state) {
  state.exp_avg(copy_of(state.exp_avg()))
      .exp_avg_sq(copy_of(state.exp_avg_sq()))
      .max_exp_avg_sq(copy_of(state.max_exp_avg_sq()));
}

void copy_tensors(torch::optim::RMSpropParamState& state) {
  state.square_avg(copy_of(state.square_avg()))
      .momentum_buffer(copy_of(state.momentum_buffer()))
      .grad_avg(copy_of(state.grad_avg()));
}

void copy_tensors(torch::optim::AdagradParamState& state) { state.sum(copy_of(state.sum())); }

// @param copy  shares its tensors with the state that it is a copy of
template <class... Types>
bool copy_tensors_of_types(ParamState& copy) {
  const auto done = [](auto* typed) {
    if (typed != nullptr) copy_tensors(*typed);
    return typed != nullptr;
  };
  return (done(dynamic_cast<Types*>(&copy)) || ...);
}

// For an optimizer of the program's own, by what it writes into files.
void copy_by_archive(const ParamState& state, ParamState& copy) {
  std::stringstream bytes;
  torch::serialize::OutputArchive written;
  state.serialize(written);
  written.save_to(bytes);
  torch::serialize::InputArchive read;
  read.load_from(bytes);
  copy.serialize(read);
}

std::unique_ptr<ParamState> deep_copy(const ParamState& state) {
  using namespace torch::optim;
  try {
    auto copy = state.clone();
    if (!copy_tensors_of_types<SGDParamState, AdamParamState, AdamWParamState, RMSpropParamState,
                               AdagradParamState>(*copy)) {
      copy_by_archive(state, *copy);
    }
    return copy;
  } catch (const c10::Error& error) {
    throw ArgumentError(concat("the optimizer's state, a ", c10::demangle(typeid(state).name()),
                               ", can't be copied to give it back; implement its clone() and "
                               "serialize(), or use an optimizer that hasn't stepped yet: ",
                               error.what_without_backtrace()));
  }
}

}  // namespace

TrainingSnapshot::TrainingSnapshot(torch::nn::Module& module, torch::optim::Optimizer& optimizer)
    : module_(&module), optimizer_(&optimizer) {
  std::unordered_set<const c10::TensorImpl*> seen;
  const auto add = [&](const std::vector<torch::Tensor>& tensors) {
    for (const auto& tensor : tensors) {
      if (!tensor.defined() || !seen.insert(tensor.unsafeGetTensorImpl()).second) continue;
      parameters_.emplace_back(tensor, copy_of(tensor));
    }
  };
  add(module.parameters());
  for (const auto& group : optimizer.param_groups()) add(group.params());
  for (const auto& item : module.named_buffers()) {
    buffers_.emplace_back(item.key(), copy_of(item.value()));
  }
  modes_.emplace_back(&module, module.is_training());
  for (const auto& part : module.modules(/*include_self=*/false)) {
    modes_.emplace_back(part.get(), part->is_training());
  }
  for (const auto& [key, state] : optimizer.state()) {
    if (state) states_.emplace_back(key, deep_copy(*state));
  }
}

void TrainingSnapshot::give_back() {
  const torch::NoGradGuard no_grad;
  for (auto& [tensor, copy] : parameters_) tensor.copy_(copy);
  auto buffers = module_->named_buffers();
  for (const auto& [name, copy] : buffers_) {
    if (copy.defined()) buffers[name].copy_(copy);
  }
  // From the outside in, as a module hands its mode down.
  for (const auto& [part, mode] : modes_) part->train(mode);
  auto& states = optimizer_->state();
  states.clear();
  for (auto& [key, state] : states_) states[key] = std::move(state);
}

}  // namespace torch_accelerated
