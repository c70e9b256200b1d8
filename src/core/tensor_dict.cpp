// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/core/tensor_dict.h"

#include <torch/torch.h>

#include "base/text.h"
#include "core/without_graph.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

std::string names_of(const TensorDict& dict) {
  std::string names;
  for (const auto& [name, value] : dict) {
    names += names.empty() ? "'" : ", '";
    names += name + "'";
  }
  return names.empty() ? "it is empty" : "it has " + names;
}

}  // namespace

TensorDict::TensorDict() = default;
TensorDict::TensorDict(const TensorDict&) = default;
TensorDict::TensorDict(TensorDict&&) noexcept = default;
TensorDict& TensorDict::operator=(const TensorDict&) = default;
TensorDict& TensorDict::operator=(TensorDict&&) noexcept = default;
TensorDict::~TensorDict() = default;

TensorDict::TensorDict(std::initializer_list<Entry> entries) {
  values_.reserve(entries.size());
  for (const auto& [name, value] : entries) set(name, value);
}

const torch::Tensor& TensorDict::operator[](std::string_view name) const {
  if (const auto* value = values_.find(name)) return *value;
  throw ArgumentError(concat("TensorDict has no '", name, "': ", names_of(*this)));
}

TensorDict& TensorDict::set(std::string_view name, torch::Tensor value) {
  values_.set(name, std::move(value));
  return *this;
}

const torch::Tensor& TensorDict::only() const {
  if (size() == 1) return begin()->second;
  throw ArgumentError(concat("TensorDict::only() wants one tensor, found ", size(), ": ",
                             names_of(*this), "; take one by its name"));
}

bool TensorDict::contains(std::string_view name) const noexcept {
  return values_.find(name) != nullptr;
}

std::size_t TensorDict::size() const noexcept { return values_.entries().size(); }

const TensorDict::Entry* TensorDict::begin() const noexcept { return values_.entries().data(); }

const TensorDict::Entry* TensorDict::end() const noexcept { return begin() + size(); }

std::int64_t TensorDict::rows() const {
  if (empty()) return 0;
  const auto& [name, value] = *begin();
  if (value.defined() && value.dim() > 0) return value.size(0);
  throw ArgumentError(concat("TensorDict::rows(): the first tensor, '", name,
                             "', has no dimension; put one of shape (rows, ...) first"));
}

TensorDict TensorDict::to(c10::Device device, bool non_blocking) const {
  TensorDict result = *this;
  result.values_.change_each([&](const torch::Tensor& value) {
    return value.defined() ? value.to(device, non_blocking) : value;
  });
  return result;
}

TensorDict TensorDict::pin_memory() const {
  TensorDict result = *this;
  result.values_.change_each([](const torch::Tensor& value) {
    return value.defined() && value.device().is_cpu() ? value.pin_memory() : value;
  });
  return result;
}

TensorDict TensorDict::detach() && {
  values_.change_each(without_graph);
  return std::move(*this);
}

TensorDict TensorDict::detach() const& { return TensorDict(*this).detach(); }

std::string TensorDict::describe() const {
  std::string text;
  for (const auto& [name, value] : *this) {
    if (!text.empty()) text += ", ";
    text += value.defined()
                ? concat(name, ": ", value.dtype(), " ", value.sizes(), " on ", value.device())
                : name + ": undefined";
  }
  return text.empty() ? "empty" : text;
}

}  // namespace torch_accelerated
