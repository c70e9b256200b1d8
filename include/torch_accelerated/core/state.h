// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "torch_accelerated/core/named_values.h"
#include "torch_accelerated/core/state_value.h"
#include "torch_accelerated/core/tensor_dict.h"

namespace torch_accelerated {

/// What an object must keep so that a run can go on as if it had never ended: values and tensors
/// by name, in the order in which they were set.
class State {
 public:
  using Value = StateValue;
  using Entry = StateEntry;

  /// Adds `value` under `name`, or puts it in the place of what stood there.
  State& set(std::string_view name, Value value);
  State& set_tensor(std::string_view name, torch::Tensor value);

  /// Adds all of another object's state, each name after "name/".
  State& set_part(std::string_view name, const State& part);

  /// The value called `name`.
  /// @throws StateError  when there is none, or it is of another type; names both.
  template <class Type>
  const Type& get(std::string_view name) const {
    if (const auto* value = std::get_if<Type>(&find(name))) return *value;
    throw_wrong_type(name);
  }

  /// @throws StateError  when there is none.
  const torch::Tensor& tensor(std::string_view name) const;

  /// What `set_part` has added.
  State part(std::string_view name) const;

  bool contains(std::string_view name) const noexcept;
  bool empty() const noexcept { return values().empty() && tensors_.empty(); }
  const std::vector<Entry>& values() const noexcept { return values_.entries(); }
  const TensorDict& tensors() const noexcept { return tensors_; }

 private:
  const Value& find(std::string_view name) const;
  [[noreturn]] static void throw_wrong_type(std::string_view name);

  NamedValues<Value> values_;
  TensorDict tensors_;
};

}  // namespace torch_accelerated
