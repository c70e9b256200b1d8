// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/core/running_mean.h"

#include <torch/torch.h>

#include "core/host_scalar.h"

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
  // A mean over no rows is 0/0: it says nothing and must not poison the sum.
  if (!mean.defined() || (mean.is_over_rows() && rows == 0)) return;
  if (mean.numerator().device().is_cpu()) {
    add_on_host(mean, rows);
  } else {
    add_on_device(mean, rows);
  }
}

void RunningMean::add_on_host(const Mean& mean, std::int64_t rows) {
  const double value = host_scalar(mean.numerator());
  if (mean.is_over_rows()) {
    const auto weight = static_cast<double>(rows);
    add(value * weight, weight);
  } else if (const double weight = host_scalar(mean.weight()); weight != 0) {
    add(value, weight);
  }
}

void RunningMean::add_on_device(const Mean& mean, std::int64_t rows) {
  const torch::NoGradGuard no_grad;
  auto value = mean.numerator().detach().reshape({}).to(torch::kFloat64);
  auto weight = mean.is_over_rows() ? torch::full({}, static_cast<double>(rows), value.options())
                                    : mean.weight().reshape({}).to(torch::kFloat64);
  if (mean.is_over_rows()) value = value * weight;
  const auto counts = weight != 0;
  if (!device_) {
    const auto zero = torch::zeros({}, value.options());
    device_ = std::make_unique<DeviceSums>(DeviceSums{zero, zero.clone()});
  }
  const auto nothing = torch::zeros({}, value.options());
  device_->sum.add_(torch::where(counts, value, nothing));
  device_->weight.add_(torch::where(counts, weight, nothing));
}

void RunningMean::add(double sum, double weight) {
  sum_ += sum;
  weight_ += weight;
}

void RunningMean::add(const RunningMean& other) {
  add(other.sum_, other.weight_);
  if (!other.device_) return;
  if (!device_) {
    device_ = std::make_unique<DeviceSums>(
        DeviceSums{other.device_->sum.clone(), other.device_->weight.clone()});
    return;
  }
  device_->sum.add_(other.device_->sum);
  device_->weight.add_(other.device_->weight);
}

double RunningMean::value() const {
  const double total = weight();
  if (total == 0) return 0;
  return sum() / total;
}

double RunningMean::sum() const { return sum_ + (device_ ? device_->sum.item<double>() : 0.0); }

double RunningMean::weight() const {
  return weight_ + (device_ ? device_->weight.item<double>() : 0.0);
}

}  // namespace torch_accelerated
