// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/core/mean.h"

#include <torch/torch.h>

#include "base/text.h"
#include "core/without_graph.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {

struct Mean::Parts {
  torch::Tensor numerator;
  torch::Tensor weight;
};

namespace {

void check_scalar(const torch::Tensor& value, const char* what) {
  if (!value.defined()) {
    throw ArgumentError(concat("Mean: the ", what, " is an undefined tensor; a scalar is wanted"));
  }
  if (value.numel() != 1) {
    throw ArgumentError(concat("Mean: the ", what, " has shape ", value.sizes(),
                               ", a scalar is wanted; reduce it with mean() or sum()"));
  }
}

}  // namespace

Mean::Mean(torch::Tensor mean_over_rows) {
  check_scalar(mean_over_rows, "value");
  parts_ = std::make_shared<Parts>(Parts{std::move(mean_over_rows), {}});
}

Mean::Mean(torch::Tensor sum, torch::Tensor weight) {
  check_scalar(sum, "sum");
  check_scalar(weight, "weight");
  if (weight.device() != sum.device()) {
    throw ArgumentError(concat("Mean: the weight is on ", weight.device(), ", the sum on ",
                               sum.device(), "; make both on one device"));
  }
  parts_ = std::make_shared<Parts>(Parts{std::move(sum), weight.detach()});
}

bool Mean::is_over_rows() const noexcept { return parts_ != nullptr && !parts_->weight.defined(); }

const torch::Tensor& Mean::numerator() const {
  if (!defined()) throw StateError("Mean: it has no value; return a loss from the step");
  return parts_->numerator;
}

const torch::Tensor& Mean::weight() const {
  if (!defined()) throw StateError("Mean: it has no value; return a loss from the step");
  return parts_->weight;
}

torch::Tensor Mean::value() const {
  if (is_over_rows()) return numerator();
  const auto& divisor = weight();
  return torch::where(divisor == 0, torch::zeros_like(numerator()),
                      numerator() / torch::where(divisor == 0, torch::ones_like(divisor), divisor));
}

Mean Mean::detach() const& {
  Mean result;
  if (defined()) result.parts_ = std::make_shared<Parts>(*parts_);
  return std::move(result).detach();
}

Mean Mean::detach() && {
  if (parts_.use_count() > 1) return static_cast<const Mean&>(*this).detach();
  if (defined()) parts_->numerator = without_graph(std::move(parts_->numerator));
  return std::move(*this);
}

}  // namespace torch_accelerated
