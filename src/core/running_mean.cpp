// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/core/running_mean.h"

#include <torch/torch.h>

namespace torch_accelerated {

struct RunningMean::DeviceSums {
  torch::Tensor sum;     // (), float64
  torch::Tensor weight;  // (), float64
};

RunningMean::RunningMean() = default;
RunningMean::RunningMean(RunningMean&&) noexcept = default;
RunningMean& RunningMean::operator=(RunningMean&&) noexcept = default;
RunningMean::~RunningMean() = default;

void RunningMean::add(const Mean& mean, std::int64_t rows) {
  if (!mean.defined()) return;
  const torch::NoGradGuard no_grad;
  const auto& numerator = mean.numerator();
  const auto weight_of_rows = static_cast<double>(rows);
  if (numerator.device().is_cpu()) {
    if (mean.is_over_rows()) {
      // A mean over no rows is 0/0: it says nothing and must not poison the sum.
      if (rows > 0) add(numerator.item<double>() * weight_of_rows, weight_of_rows);
    } else if (const double weight = mean.weight().item<double>(); weight != 0) {
      add(numerator.item<double>(), weight);
    }
    return;
  }
  if (!device_) {
    const auto zero = torch::zeros({}, numerator.options().dtype(torch::kFloat64));
    device_ = std::make_unique<DeviceSums>(DeviceSums{zero, zero.clone()});
  }
  const auto value = numerator.detach().reshape({}).to(torch::kFloat64);
  if (mean.is_over_rows()) {
    if (rows == 0) return;
    device_->sum.add_(value, weight_of_rows);
    device_->weight.add_(weight_of_rows);
  } else {
    const auto weight = mean.weight().reshape({}).to(torch::kFloat64);
    device_->sum.add_(torch::where(weight == 0, torch::zeros_like(value), value));
    device_->weight.add_(weight);
  }
}

void RunningMean::add(double sum, double weight) {
  sum_ += sum;
  weight_ += weight;
}

double RunningMean::value() const {
  const double total = weight();
  if (total == 0) return 0;
  return (sum_ + (device_ ? device_->sum.item<double>() : 0.0)) / total;
}

double RunningMean::weight() const {
  return weight_ + (device_ ? device_->weight.item<double>() : 0.0);
}

}  // namespace torch_accelerated
