// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <memory>
#include <span>

#include "torch_accelerated/distributed/communicator.h"

namespace torch_accelerated {

/// An update's word on its way from the device to the host, which goes on meanwhile.
class WordCopy {
 public:
  /// @param word       (n), float64; may change as soon as this returns.
  /// @param reduction  that it comes from; null in one process.
  WordCopy(const torch::Tensor& word, std::unique_ptr<Pending> reduction);
  ~WordCopy();
  WordCopy(WordCopy&&) noexcept;
  WordCopy& operator=(WordCopy&&) noexcept;

  /// The word. Waits until it is there, and looks for lost ranks meanwhile.
  /// @throws CommunicationError  as the reduction.
  std::span<const double> read();

 private:
  class Arrival;

  torch::Tensor host_;
  std::unique_ptr<Pending> reduction_;  // until it has been waited for
  std::unique_ptr<Arrival> arrival_;    // on devices other than the CPU
};

}  // namespace torch_accelerated
