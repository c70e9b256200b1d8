// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/core/state.h"

#include <torch/torch.h>

#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

std::string prefix_of(std::string_view part) { return std::string(part) + "/"; }

}  // namespace

State& State::set(std::string_view name, Value value) {
  values_.set(name, std::move(value));
  return *this;
}

State& State::set_tensor(std::string_view name, torch::Tensor value) {
  tensors_.set(name, std::move(value));
  return *this;
}

State& State::set_part(std::string_view name, const State& part) {
  const auto prefix = prefix_of(name);
  for (const auto& [own_name, value] : part.values()) set(prefix + own_name, value);
  for (const auto& [own_name, value] : part.tensors()) set_tensor(prefix + own_name, value);
  return *this;
}

const torch::Tensor& State::tensor(std::string_view name) const {
  if (tensors_.contains(name)) return tensors_[name];
  throw StateError(concat("the state has no tensor '", name,
                          "'; it is another object's, or of another version"));
}

State State::part(std::string_view name) const {
  const auto prefix = prefix_of(name);
  State part;
  for (const auto& [full_name, value] : values()) {
    if (full_name.starts_with(prefix)) part.set(full_name.substr(prefix.size()), value);
  }
  for (const auto& [full_name, value] : tensors_) {
    if (full_name.starts_with(prefix)) part.set_tensor(full_name.substr(prefix.size()), value);
  }
  return part;
}

bool State::contains(std::string_view name) const noexcept { return values_.find(name) != nullptr; }

const State::Value& State::find(std::string_view name) const {
  if (const auto* value = values_.find(name)) return *value;
  throw StateError(
      concat("the state has no value '", name, "'; it is another object's, or of another version"));
}

void State::throw_wrong_type(std::string_view name) {
  throw StateError(concat("the state's value '", name,
                          "' is of another type; it is another object's, or of another version"));
}

}  // namespace torch_accelerated
