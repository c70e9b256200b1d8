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

// What an optimizer of the program's own writes into files.
std::string archive_of(const ParamState& state) {
  std::ostringstream bytes;
  torch::serialize::OutputArchive archive;
  state.serialize(archive);
  archive.save_to(bytes);
  return bytes.str();
}

void read_archive(const std::string& bytes, ParamState& state) {
  std::istringstream stream(bytes);
  torch::serialize::InputArchive archive;
  archive.load_from(stream);
  state.serialize(archive);
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
    if (state) save(key, *state);
  }
}

void TrainingSnapshot::save(void* key, const ParamState& state) {
  using namespace torch::optim;
  try {
    SavedState saved{key, state.clone(), {}};
    if (!copy_tensors_of_types<SGDParamState, AdamParamState, AdamWParamState, RMSpropParamState,
                               AdagradParamState>(*saved.state)) {
      saved.archive = archive_of(state);
    }
    states_.push_back(std::move(saved));
  } catch (const c10::Error& error) {
    throw ArgumentError(concat("the optimizer's state, a ", c10::demangle(typeid(state).name()),
                               ", can't be copied to give it back; implement its clone() and "
                               "serialize(), or use an optimizer that hasn't stepped yet: ",
                               error.what_without_backtrace()));
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
  for (auto& [key, state, archive] : states_) {
    if (!archive.empty()) read_archive(archive, *state);
    states[key] = std::move(state);
  }
}

}  // namespace torch_accelerated
