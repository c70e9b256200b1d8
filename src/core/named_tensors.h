// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "torch_accelerated/core/tensor_dict.h"

namespace torch_accelerated {

/// A module's own tensors by name, each once however many names it has.
TensorDict named_parameters(const torch::nn::Module& module);
TensorDict named_buffers(const torch::nn::Module& module);
TensorDict named_tensors(const torch::nn::Module& module);  ///< parameters, then buffers

/// The same numbers in memory of their own, without graph.
TensorDict copied(const TensorDict& tensors, std::optional<c10::Device> device = {});

/// The same, halves as float32: what small steps can be added to.
TensorDict copied_for_sums(const TensorDict& tensors);

/// `values` under the names and in the order of `tensors`.
/// @param what  starts the message.
/// @throws StateError  they have other names or shapes.
TensorDict fitted(const TensorDict& values, const TensorDict& tensors, const std::string& what);

/// Copies numbers into the tensors of the same names, in place.
/// @throws StateError  as `fitted`; nothing has been changed then.
void copy_into(const TensorDict& values, const TensorDict& tensors, const std::string& what);

/// average += weight (tensor - average) for each pair, in place; entries that aren't floating point
/// are copied.
/// @param averages  in the order of `tensors`, as `copied_for_sums` and `fitted` give them.
void move_towards(const TensorDict& tensors, double weight, const TensorDict& averages);

/// Puts `values` into the place of `tensors` for a scope.
///
/// Data are exchanged, not tensors: optimizers, gradients and tied names still mean the module's
/// own. What is written into a swapped tensor of the same dtype is written into its value.
class SwappedTensors {
 public:
  /// @param values  in the order of `tensors`.
  SwappedTensors(const TensorDict& values, const TensorDict& tensors);
  ~SwappedTensors();
  SwappedTensors(const SwappedTensors&) = delete;
  SwappedTensors& operator=(const SwappedTensors&) = delete;

 private:
  TensorDict tensors_;
  TensorDict data_;  // what the tensors had
};

}  // namespace torch_accelerated
