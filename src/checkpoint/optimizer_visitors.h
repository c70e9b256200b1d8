// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/text.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/core/state.h"

namespace torch_accelerated {

// What `visit_fields` is called with, to write an optimizer's fields and to read them back.

/// Puts fields into a State; those of the options go to `prefix`.
class Writer {
 public:
  Writer(State& state, std::string prefix) : state_(state), prefix_(std::move(prefix)) {}

  void operator()(const char* name, bool value) { set(name, value); }
  void operator()(const char* name, double value) { set(name, value); }
  void operator()(const char* name, const std::tuple<double, double>& value) {
    set(name, std::vector<double>{std::get<0>(value), std::get<1>(value)});
  }
  void operator()(const char* name, std::int64_t value) { set(name, value); }
  template <class Type>
  void operator()(const char* name, const std::optional<Type>& value) {
    if (value) (*this)(name, *value);
  }
  void operator()(const char* name, const std::string& value) { set(name, value); }
  void operator()(const char* name, const torch::Tensor& value) {
    if (value.defined()) state_.set_tensor(prefix_ + name, value.detach());
  }
  template <class List>
    requires std::is_same_v<typename List::value_type, torch::Tensor>
  void operator()(const char* name, const List& tensors) {
    set(concat(name, ".size").c_str(), static_cast<std::int64_t>(tensors.size()));
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      (*this)(concat(name, ".", i).c_str(), tensors[i]);
    }
  }

 private:
  void set(const char* name, State::Value value) { state_.set(prefix_ + name, std::move(value)); }

  State& state_;
  std::string prefix_;
};

/// The same for what is kept of a parameter: counts are tensors, so that ten thousand parameters
/// don't become ten thousand lines of text.
class ParameterWriter : public Writer {
 public:
  ParameterWriter(State& state, const std::string& prefix) : Writer(state, prefix) {}
  using Writer::operator();
  void operator()(const char* name, std::int64_t value) {
    Writer::operator()(name, torch::full({}, value, torch::kInt64));
  }
};

/// How many tensors a list in the state of a parameter may have.
constexpr std::int64_t kListTensors = 100'000;

/// Takes fields out of a State.
class Reader {
 public:
  /// @param like  what tensors of the parameter's own shape must fit; undefined for options.
  Reader(const State& state, std::string prefix, torch::Tensor like, const std::string& what)
      : state_(state), prefix_(std::move(prefix)), like_(std::move(like)), what_(what) {}

  void operator()(const char* name, bool& value) { value = state_.get<bool>(prefix_ + name); }
  void operator()(const char* name, double& value) { value = state_.get<double>(prefix_ + name); }
  void operator()(const char* name, std::tuple<double, double>& value) {
    const auto& both = state_.get<std::vector<double>>(prefix_ + name);
    if (both.size() != 2) fail(name, concat("has ", both.size(), " numbers instead of 2"));
    value = {both[0], both[1]};
  }
  void operator()(const char* name, std::int64_t& value) {
    if (!like_.defined()) {
      value = state_.get<std::int64_t>(prefix_ + name);
      return;
    }
    const auto& tensor = state_.tensor(prefix_ + name);
    if (tensor.numel() != 1 || tensor.scalar_type() != torch::kInt64) {
      fail(name, "is no int64 number");
    }
    value = tensor.item<std::int64_t>();
  }
  template <class Type>
  void operator()(const char* name, std::optional<Type>& value) {
    value.reset();
    if (state_.contains(prefix_ + name)) value = state_.get<Type>(prefix_ + name);
  }
  void operator()(const char* name, std::optional<std::vector<torch::Tensor>>& tensors) {
    tensors.reset();
    if (!state_.contains(prefix_ + name + ".size")) return;
    (*this)(name, tensors.emplace());
  }
  void operator()(const char* name, torch::Tensor& value) {
    value = torch::Tensor();
    if (!state_.tensors().contains(prefix_ + name)) return;
    const auto& saved = state_.tensor(prefix_ + name);
    const bool is_number = accepts_numbers_ && saved.numel() == 1;
    if (!is_number &&
        (saved.sizes() != like_.sizes() || saved.scalar_type() != like_.scalar_type())) {
      fail(name, concat("is ", saved.dtype(), " of shape ", saved.sizes(), " in the checkpoint, ",
                        like_.dtype(), " of shape ", like_.sizes(), " here"));
    }
    value = saved.to(like_.device());
  }
  template <class List>
    requires std::is_same_v<typename List::value_type, torch::Tensor>
  void operator()(const char* name, List& tensors) {
    const auto size = state_.get<std::int64_t>(prefix_ + name + ".size");
    // Undefined ones, as LBFGS has of iterations to come, aren't among the state's tensors.
    if (size < 0 || size > kListTensors) {
      fail(name, concat("is a list of ", size, " tensors, expected 0 to ", kListTensors));
    }
    tensors.resize(static_cast<std::size_t>(size));
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      (*this)(concat(name, ".", i).c_str(), tensors[i]);
    }
  }

  void accept_numbers() { accepts_numbers_ = true; }

 private:
  [[noreturn]] void fail(const char* name, const std::string& why) const {
    throw CheckpointError(concat(what_, ": '", prefix_, name, "' ", why));
  }

  const State& state_;
  std::string prefix_;
  torch::Tensor like_;
  const std::string& what_;
  bool accepts_numbers_ = false;
};

}  // namespace torch_accelerated
