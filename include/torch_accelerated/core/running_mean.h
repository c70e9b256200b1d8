// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "torch_accelerated/core/mean.h"

namespace torch_accelerated {

/// Adds up means of micro-batches in float64: on the host for CPU tensors, on the device (and
/// without waiting for it) for all others.
class RunningMean {
 public:
  RunningMean();
  RunningMean(RunningMean&&) noexcept;
  RunningMean& operator=(RunningMean&&) noexcept;
  ~RunningMean();

  /// @param rows  the micro-batch's rows, the weight of a mean over rows.
  void add(const Mean& mean, std::int64_t rows);

  /// As `add`, for a value that is on the host already.
  void add(double sum, double weight);

  /// Adds all that `other` has.
  void add(const RunningMean& other);

  /// The sum over the weight, 0 when the weight is 0; waits for the device.
  double value() const;

  /// Waits for the device, as the next.
  double sum() const;
  double weight() const;

 private:
  struct DeviceSums;

  void add_on_host(const Mean& mean, std::int64_t rows);
  void add_on_device(const Mean& mean, std::int64_t rows);

  double sum_ = 0;
  double weight_ = 0;
  std::unique_ptr<DeviceSums> device_;
};

}  // namespace torch_accelerated
