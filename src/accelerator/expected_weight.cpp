// SPDX-License-Identifier: Apache-2.0
#include "accelerator/expected_weight.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

// The power of two next to weight / rows: exact to multiply by, so E adds no rounding of its own.
double power_of_two_near(double ratio) {
  return ratio > 0 && std::isfinite(ratio) ? std::exp2(std::round(std::log2(ratio))) : 1.0;
}

double at_least_one(std::int64_t rows) {
  return static_cast<double>(std::max<std::int64_t>(rows, 1));
}

}  // namespace

void ExpectedWeight::begin(const WindowPosition& position, std::optional<double> weight) {
  if (!is_alone() && !agreed_) agree(position, weight);
  if (is_alone() && !scale_ && weight.value_or(0) > 0) {
    scale_ = power_of_two_near(*weight / at_least_one(position.rows));
  }
  if (value_ != 0) return;
  const double first = is_alone() ? at_least_one(position.rows) : std::max(first_rows_, 1.0);
  const double rows = position.window_rows ? static_cast<double>(*position.window_rows)
                                           : first * static_cast<double>(position.micro_batches);
  value_ = rows * scale_.value_or(1.0);
}

// The first rank that has a weight tells it; a rank without rows can't know whether losses have
// any.
void ExpectedWeight::agree(const WindowPosition& position, std::optional<double> weight) {
  const auto mine =
      torch::tensor({static_cast<double>(position.rows), weight.value_or(-1.0)}, torch::kFloat64);
  agreed_ = true;
  for (const auto& part : control_->all_gather(mine)) {
    const auto* values = part.const_data_ptr<double>();
    first_rows_ += values[0];
    if (!scale_ && values[1] > 0) scale_ = power_of_two_near(values[1] / std::max(values[0], 1.0));
  }
}

State ExpectedWeight::state() const {
  State state;
  if (agreed_) state.set("rows", first_rows_);
  if (scale_) state.set("scale", *scale_);
  return state;
}

void ExpectedWeight::load_state(const State& state) {
  const auto number = [&state](const char* name) -> std::optional<double> {
    if (!state.contains(name)) return std::nullopt;
    const double value = state.get<double>(name);
    if (std::isfinite(value) && value >= 0) return value;
    throw StateError(concat("the window's ", name, " is ", value, ", expected a number >= 0"));
  };
  const auto rows = number("rows");
  agreed_ = rows.has_value();
  first_rows_ = rows.value_or(0.0);
  scale_ = number("scale");
}

}  // namespace torch_accelerated
