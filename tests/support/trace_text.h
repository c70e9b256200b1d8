// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <sstream>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "torch_accelerated/torch_accelerated.h"

namespace tests {

/// What a run leaves as text, numbers to the bit and times left out, to be compared with another's.
class TraceText {
 public:
  TraceText() { text_ << std::hexfloat; }

  void add(const std::string& name, double number) { text_ << name << ' ' << number << '\n'; }

  void add(const std::string& name, const torch::Tensor& tensor) {
    text_ << name << ':';
    const auto flat = tensor.detach().to(torch::kFloat64).contiguous().view(-1);
    for (std::int64_t i = 0; i < flat.numel(); ++i) text_ << ' ' << flat[i].item<double>();
    text_ << '\n';
  }

  void add(const torch::nn::Module& module) {
    for (const auto& item : module.named_parameters()) add(item.key(), item.value());
    for (const auto& item : module.named_buffers()) add(item.key(), item.value());
  }

  void add(const std::string& name, const torch_accelerated::State& state) {
    for (const auto& [key, value] : state.values()) {
      text_ << name << '/' << key << ": ";
      std::visit([this](const auto& typed) { put(typed); }, value);
      text_ << '\n';
    }
    for (const auto& [key, tensor] : state.tensors()) add(name + "/" + key, tensor);
  }

  void add(const torch_accelerated::History& history) {
    for (const auto& row : history.rows()) {
      text_ << "row " << row.epoch << ' ' << row.updates << ' ' << row.is_intermediate;
      for (const auto& [name, value] : row.metrics) {
        if (!is_time(name)) text_ << ' ' << name << '=' << value;
      }
      text_ << '\n';
    }
  }

  std::string text() const { return text_.str(); }

 private:
  static bool is_time(const std::string& name) {
    return name == "seconds" || name == "eta_seconds" || name == "rows_per_second";
  }

  template <class Type>
  void put(const Type& value) {
    if constexpr (std::is_same_v<Type, std::vector<double>>) {
      for (const double number : value) text_ << number << ' ';
    } else {
      text_ << value;
    }
  }

  std::ostringstream text_;
};

}  // namespace tests
