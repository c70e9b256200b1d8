// SPDX-License-Identifier: Apache-2.0
#include "accelerator/gradient_window.h"

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "core/host_scalar.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

// The power of two next to weight / rows: exact to multiply by, so E adds no rounding of its own.
double power_of_two_near(double ratio) {
  return ratio > 0 && std::isfinite(ratio) ? std::exp2(std::round(std::log2(ratio))) : 1.0;
}

void check_graph(const torch::Tensor& numerator) {
  if (numerator.requires_grad()) return;
  throw ArgumentError(
      "backward: the loss has no graph (requires_grad is false); compute it from the model's "
      "outputs without detach() or NoGradGuard, with at least one trainable parameter");
}

void multiply_gradients(const torch::optim::Optimizer& optimizer, double factor) {
  const torch::NoGradGuard no_grad;
  for (const auto& group : optimizer.param_groups()) {
    for (const auto& parameter : group.params()) {
      const auto& gradient = parameter.grad();
      if (gradient.defined()) gradient.mul_(factor);
    }
  }
}

void check_position(const WindowPosition& position) {
  const bool sane = position.rows >= 0 && position.micro_batches >= 1 &&
                    position.window_rows.value_or(position.rows) >= position.rows;
  if (sane) return;  // messages cost more than the micro-batch's other work
  OptionCheck("backward")
      .require(position.rows >= 0, concat("rows must be >= 0, got ", position.rows))
      .require(position.micro_batches >= 1,
               concat("micro_batches must be >= 1, got ", position.micro_batches))
      .require(
          position.window_rows.value_or(position.rows) >= position.rows,
          concat("window_rows is ", position.window_rows.value_or(0), ", of which ", position.rows,
                 " are this micro-batch's; give the rows of the whole window, "
                 "or leave it out where they are not known"))
      .throw_if_any();
}

void check_weight(double weight) {
  if (!(weight < 0)) return;
  throw ArgumentError(concat("backward: the weight of the loss is ", weight,
                             "; a weight is the number that the sum is divided by, >= 0"));
}

}  // namespace

void GradientWindow::backward(const Mean& loss, const WindowPosition& position,
                              const std::optional<std::vector<torch::Tensor>>& only) {
  const auto& numerator = loss.numerator();
  check_graph(numerator);
  check_position(position);
  if (!note_weight(loss, position)) return;
  const double weight = loss.is_over_rows() ? static_cast<double>(position.rows) : 1.0;
  note_loss(numerator, weight);
  const double share = weight / expected_;
  // A share of 1 is left out, so that one process without accumulation does a plain loop's work.
  const auto root = share == 1.0 ? numerator : numerator * share;
  if (only && only->empty()) return;  // to the engine, no inputs means all
  torch::autograd::backward({root}, {}, /*retain_graph=*/std::nullopt, /*create_graph=*/false,
                            only.value_or(std::vector<torch::Tensor>()));
}

// Whether the micro-batch weighs anything, as far as the host knows.
bool GradientWindow::note_weight(const Mean& loss, const WindowPosition& position) {
  ++micro_batches_;
  if (loss.is_over_rows()) {
    if (position.rows == 0) return false;
    note_expected(position, std::nullopt);
    host_weight_ += static_cast<double>(position.rows);
    return true;
  }
  const auto& weight = loss.weight();
  const bool on_host = weight.device().is_cpu();
  const bool first = !scale_of_rows_;
  const double value = on_host || first ? host_scalar(weight) : 0.0;
  check_weight(value);
  if ((on_host || first) && value == 0) return false;
  note_expected(position, value);
  if (on_host) {
    host_weight_ += value;
  } else {
    const auto device_weight = weight.reshape({}).to(torch::kFloat64);
    weight_ = weight_.defined() ? weight_ + device_weight : device_weight;
  }
  return true;
}

void GradientWindow::note_expected(const WindowPosition& position,
                                   std::optional<double> first_weight) {
  if (expected_ != 0) return;
  const double rows = static_cast<double>(position.window_rows.value_or(
      std::max<std::int64_t>(position.rows, 1) * position.micro_batches));
  if (!first_weight) {
    expected_ = rows;
    return;
  }
  if (!scale_of_rows_) {
    scale_of_rows_ = power_of_two_near(
        *first_weight / static_cast<double>(std::max<std::int64_t>(position.rows, 1)));
  }
  expected_ = rows * *scale_of_rows_;
}

void GradientWindow::note_loss(const torch::Tensor& numerator, double weight) {
  if (numerator.device().is_cpu()) {
    host_loss_ += host_scalar(numerator) * weight;
    return;
  }
  const auto value = numerator.detach().reshape({}).to(torch::kFloat64) * weight;
  device_loss_ = device_loss_.defined() ? device_loss_ + value : value;
}

Gradients GradientWindow::close(const torch::optim::Optimizer& optimizer) {
  // Gradients that came about elsewhere are taken as they are.
  if (!is_open()) return Gradients::kReady;
  const double sum = host_loss_ + (device_loss_.defined() ? device_loss_.item<double>() : 0.0);
  const double weight = host_weight_ + (weight_.defined() ? weight_.item<double>() : 0.0);
  check_weight(weight);
  loss_ = weight == 0 ? 0.0 : sum / weight;
  if (!std::isfinite(sum) || !std::isfinite(weight)) return Gradients::kNotFinite;
  if (weight == 0) return Gradients::kEmpty;
  if (weight != expected_) multiply_gradients(optimizer, expected_ / weight);
  return Gradients::kReady;
}

void GradientWindow::reopen() noexcept {
  expected_ = 0;
  host_weight_ = 0;
  weight_.reset();
  host_loss_ = 0;
  device_loss_.reset();
  micro_batches_ = 0;
}

}  // namespace torch_accelerated
