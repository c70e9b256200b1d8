// SPDX-License-Identifier: Apache-2.0
#include "trainer/training_snapshot.h"

#include <sstream>
#include <unordered_set>

#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

using ParamState = torch::optim::OptimizerParamState;

// In the host's memory: the training that follows has the device to itself.
torch::Tensor copy_of(const torch::Tensor& tensor) {
  if (!tensor.defined()) return tensor;
  return tensor.detach().to(torch::kCPU, /*non_blocking=*/false, /*copy=*/true);
}

// Puts what `change` makes of each tensor in its place.
template <class Change>
void change_tensors(torch::optim::SGDParamState& state, const Change& change) {
  state.momentum_buffer(change(state.momentum_buffer()));
}

template <class AdamState, class Change>
  requires requires(AdamState& state) { state.max_exp_avg_sq(); }
void change_tensors(AdamState& state, const Change& change) {
  state.exp_avg(change(state.exp_avg()))
      .exp_avg_sq(change(state.exp_avg_sq()))
      .max_exp_avg_sq(change(state.max_exp_avg_sq()));
}

template <class Change>
void change_tensors(torch::optim::RMSpropParamState& state, const Change& change) {
  state.square_avg(change(state.square_avg()))
      .momentum_buffer(change(state.momentum_buffer()))
      .grad_avg(change(state.grad_avg()));
}

template <class Change>
void change_tensors(torch::optim::AdagradParamState& state, const Change& change) {
  state.sum(change(state.sum()));
}

template <class... Types, class Change>
bool change_tensors_of_types(ParamState& state, const Change& change) {
  const auto done = [&](auto* typed) {
    if (typed != nullptr) change_tensors(*typed, change);
    return typed != nullptr;
  };
  return (done(dynamic_cast<Types*>(&state)) || ...);
}

// Whether `state` is of a type of LibTorch's, whose tensors are known.
template <class Change>
bool change_known_tensors(ParamState& state, const Change& change) {
  using namespace torch::optim;
  return change_tensors_of_types<SGDParamState, AdamParamState, AdamWParamState, RMSpropParamState,
                                 AdagradParamState>(state, change);
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
  try {
    SavedState saved{key, state.clone(), {}};  // shares its tensors with `state`
    const auto copy = [&](const torch::Tensor& tensor) {
      if (tensor.defined()) saved.device = tensor.device();
      return copy_of(tensor);
    };
    if (!change_known_tensors(*saved.state, copy)) saved.archive = archive_of(state);
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
  for (auto& [key, state, archive, device] : states_) {
    if (!archive.empty()) read_archive(archive, *state);
    const auto to_device = [place = device](const torch::Tensor& tensor) {
      return tensor.defined() ? tensor.to(place) : tensor;
    };
    change_known_tensors(*state, to_device);
    states[key] = std::move(state);
  }
}

}  // namespace torch_accelerated
