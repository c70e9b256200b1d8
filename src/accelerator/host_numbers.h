// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace torch_accelerated {

/// Numbers of the host that recorded work reads anew at each replay, such as learning rates: they
/// have places on the device, and all go there by one copy.
class HostNumbers {
 public:
  explicit HostNumbers(c10::Device device);

  /// A place for what `read` gives.
  /// @return (), float64, on the device; has the number from the next `send` on.
  /// @throws StateError  there is no place left.
  torch::Tensor add(std::function<double()> read);

  /// Reads all numbers and sends them, which nothing waits for.
  void send();

  /// Whether `storage` is that of the places.
  bool are_in(const c10::Storage& storage) const { return places_.storage().is_alias_of(storage); }

  /// Forgets all of them.
  void clear() noexcept { reads_.clear(); }

 private:
  void read_into(const torch::Tensor& numbers) const;

  std::vector<std::function<double()>> reads_;
  torch::Tensor places_;  // (capacity), float64
};

}  // namespace torch_accelerated
