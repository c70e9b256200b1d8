// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "torch_accelerated/core/torch_forward.h"

namespace torch_accelerated {

/// A mean as the fraction that it is, so that means over parts add up exactly: a loss or a metric
/// of a micro-batch.
///
/// Either a mean over the micro-batch's rows (its weight is their number), or a sum and the real
/// number that it is to be divided by, such as the count of unmasked tokens. A weight of 0
/// contributes nothing. Copies share the tensors.
class Mean {
 public:
  /// No value; what a step returns when it has no loss to report.
  Mean() = default;

  /// @param mean_over_rows  a scalar: shape () or one element.
  Mean(torch::Tensor mean_over_rows);  // NOLINT(google-explicit-constructor): a loss is a Mean

  /// @param sum     a scalar.
  /// @param weight  a scalar >= 0 on the same device, without a graph.
  /// @throws ArgumentError  a weight that is not a scalar.
  Mean(torch::Tensor sum, torch::Tensor weight);

  bool defined() const noexcept { return parts_ != nullptr; }

  /// Whether the weight is the number of rows, which the caller of the loss knows.
  bool is_over_rows() const noexcept;

  /// The mean where is_over_rows(), else the sum.
  const torch::Tensor& numerator() const;

  /// Undefined where is_over_rows().
  const torch::Tensor& weight() const;

  /// The mean itself, on its device: the sum over the weight, 0 for a weight of 0.
  torch::Tensor value() const;

  /// The same without a graph.
  Mean detach() const&;
  Mean detach() &&;

 private:
  struct Parts;
  std::shared_ptr<Parts> parts_;  // which copies share
};

}  // namespace torch_accelerated
