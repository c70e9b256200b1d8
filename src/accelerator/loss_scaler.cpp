// SPDX-License-Identifier: Apache-2.0
#include "accelerator/loss_scaler.h"

#include <ATen/ops/_amp_foreach_non_finite_check_and_unscale.h>
#include <ATen/ops/_amp_update_scale.h>

#include <cmath>

#include "base/text.h"
#include "core/host_scalar.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {

LossScaler::LossScaler(const LossScaling& options, c10::Device device)
    : options_(options),
      scale_(torch::full({}, options.initial_scale,
                         torch::TensorOptions().dtype(torch::kFloat32).device(device))),
      growth_(torch::zeros({}, scale_.options().dtype(torch::kInt32))),
      overflow_(torch::zeros({}, scale_.options())) {}

// A half-precision loss would overflow by the scale alone.
torch::Tensor LossScaler::scaled(const torch::Tensor& loss) const {
  const auto dtype = loss.scalar_type();
  const bool is_half = dtype == torch::kFloat16 || dtype == torch::kBFloat16;
  return (is_half ? loss.to(torch::kFloat32) : loss) * scale_;
}

bool LossScaler::unscale(std::vector<torch::Tensor> gradients) {
  const torch::NoGradGuard no_grad;
  overflow_.zero_();
  // As a double: the reciprocal of a large scale is no normal float32.
  const auto inverse = scale_.to(torch::kFloat64).reciprocal().to(torch::kFloat32);
  if (!gradients.empty()) {
    at::_amp_foreach_non_finite_check_and_unscale_(gradients, overflow_, inverse);
  }
  const bool overflowed = host_scalar(overflow_) != 0;
  adjust(overflowed);
  return !overflowed;
}

void LossScaler::adjust(bool overflowed) {
  if (!overflowed) skips_at_minimum_ = 0;
  if (overflowed && scale() <= options_.minimum_scale) {
    if (++skips_at_minimum_ >= options_.skips_at_minimum) {
      NumericError error(
          concat("the gradients overflowed in ", skips_at_minimum_,
                 " updates in a row at a loss scale of ", scale(),
                 ", the smallest allowed; lower the learning rate, check the data, or use ",
                 "MixedPrecision::kBf16"));
      error.set_on_all_ranks();
      throw error;
    }
    growth_.zero_();
    return;
  }
  at::_amp_update_scale_(scale_, growth_, overflow_, options_.growth_factor,
                         options_.backoff_factor, options_.growth_interval);
  if (overflowed) scale_.clamp_min_(options_.minimum_scale);
}

double LossScaler::scale() const { return host_scalar(scale_); }

State LossScaler::state() const {
  State state;
  state.set("scale", scale());
  state.set("updates_without_overflow", static_cast<std::int64_t>(host_scalar(growth_)));
  state.set("skips_at_minimum", skips_at_minimum_);
  return state;
}

void LossScaler::load_state(const State& state) {
  const double scale = state.get<double>("scale");
  const auto growth = state.get<std::int64_t>("updates_without_overflow");
  const auto skips = state.get<std::int64_t>("skips_at_minimum");
  if (!(std::isfinite(scale) && scale > 0) || growth < 0 || skips < 0) {
    throw StateError(concat("the loss scale is ", scale, " after ", growth,
                            " updates without overflow and ", skips,
                            " skipped ones; expected a number > 0, and counts >= 0"));
  }
  scale_.fill_(scale);
  growth_.fill_(growth);
  skips_at_minimum_ = skips;
}

bool are_finite(std::vector<torch::Tensor> tensors) {
  if (tensors.empty()) return true;
  const torch::NoGradGuard no_grad;
  const auto options = tensors.front().options().dtype(torch::kFloat32);
  auto found = torch::zeros({}, options);
  at::_amp_foreach_non_finite_check_and_unscale_(tensors, found, torch::ones({}, options));
  return host_scalar(found) == 0;
}

void check_loss_scaling(OptionCheck& check, const LossScaling& options) {
  const auto positive = [&](const char* name, double value) {
    check.require(std::isfinite(value) && value > 0,
                  concat("loss_scaling.", name, " must be a number > 0, got ", value));
  };
  positive("initial_scale", options.initial_scale);
  positive("minimum_scale", options.minimum_scale);
  check.require(options.initial_scale >= options.minimum_scale,
                concat("loss_scaling.initial_scale ", options.initial_scale,
                       " is below minimum_scale ", options.minimum_scale));
  check.require(std::isfinite(options.growth_factor) && options.growth_factor >= 1,
                concat("loss_scaling.growth_factor must be >= 1, got ", options.growth_factor));
  check.require(
      options.backoff_factor > 0 && options.backoff_factor < 1,
      concat("loss_scaling.backoff_factor must be between 0 and 1, got ", options.backoff_factor));
  check.require(options.growth_interval >= 1 && options.growth_interval <= 2'147'483'647,
                concat("loss_scaling.growth_interval must be 1 to 2147483647, got ",
                       options.growth_interval));
  check.require(
      options.skips_at_minimum >= 1,
      concat("loss_scaling.skips_at_minimum must be >= 1, got ", options.skips_at_minimum));
}

}  // namespace torch_accelerated
