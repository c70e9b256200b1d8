// SPDX-License-Identifier: Apache-2.0
#include "accelerator/gradient_window.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>
#include <utility>

#include "base/text.h"
#include "core/host_scalar.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

void check_graph(const torch::Tensor& numerator) {
  if (numerator.requires_grad()) return;
  throw ArgumentError(
      "backward: the loss has no graph (requires_grad is false); compute it from the model's "
      "outputs without detach() or NoGradGuard, with at least one trainable parameter");
}

template <class Factor>
void multiply_gradients(const torch::optim::Optimizer& optimizer, const Factor& factor) {
  const torch::NoGradGuard no_grad;
  std::unordered_set<const at::TensorImpl*> seen;  // a tied parameter's gradient only once
  for (const auto& group : optimizer.param_groups()) {
    for (const auto& parameter : group.params()) {
      const auto& gradient = parameter.grad();
      if (!gradient.defined() || !seen.insert(parameter.unsafeGetTensorImpl()).second) continue;
      gradient.mul_(factor);
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
                              const std::optional<std::vector<torch::Tensor>>& only,
                              const LossScaler* scaler) {
  const auto& numerator = loss.numerator();
  check_graph(numerator);
  check_position(position);
  if (position.is_borrowed) return lend(numerator, position);
  if (loss.is_over_rows()) {
    if (position.rows == 0) return skip(position);
    expected_.begin(position, std::nullopt);
    add(loss, static_cast<double>(position.rows), position);
  } else {
    // Once known, a weight on a device stays there: nothing waits for it.
    const bool known = is_on_host(loss.weight()) || expected_.wants_weight() || position.is_shard;
    const double weight = known ? host_scalar(loss.weight()) : 1.0;
    check_weight(weight);
    if (weight == 0) return skip(position);
    expected_.begin(position, weight);
    add(loss, weight, position);
  }
  const double share =
      (loss.is_over_rows() ? static_cast<double>(position.rows) : 1.0) / expected_.value();
  // A share of 1 is left out, so that one process without accumulation does a plain loop's work.
  const auto shared = share == 1.0 ? numerator : numerator * share;
  const auto root = scaler == nullptr ? shared : scaler->scaled(shared);
  if (only && only->empty()) return;  // to the engine, no inputs means all
  torch::autograd::backward({root}, {}, /*retain_graph=*/std::nullopt, /*create_graph=*/false,
                            only.value_or(std::vector<torch::Tensor>()));
}

// Goes back through the layers that exchange something, and adds nothing.
void GradientWindow::lend(const torch::Tensor& numerator, const WindowPosition& position) {
  skip(position);
  progress_.has_backward = true;
  torch::autograd::backward({numerator * 0.0}, {});
}

void GradientWindow::skip(const WindowPosition& position) {
  count(position);
  if (!expected_.is_alone()) expected_.begin(position, std::nullopt);
  if (position.is_shard) shards_.push({});
}

void GradientWindow::count(const WindowPosition& position) {
  ++progress_.micro_batches;
  progress_.planned = position.micro_batches;
  progress_.knows_rows = progress_.knows_rows && position.window_rows.has_value();
}

// @param weight  counts only where it is on the host or a mean is over rows.
void GradientWindow::add(const Mean& loss, double weight, const WindowPosition& position) {
  count(position);
  progress_.has_backward = true;
  const auto& numerator = loss.numerator();
  const double factor = loss.is_over_rows() ? weight : 1.0;
  if (position.is_shard) return shards_.push({host_scalar(numerator) * factor, weight});
  if (loss.is_over_rows() || is_on_host(loss.weight())) {
    progress_.host.weight += weight;
  } else {
    if (!std::exchange(progress_.adds_weight, true) && device_weight_.defined())
      device_weight_.zero_();
    add_on_device(device_weight_, loss.weight(), 1.0);
  }
  if (is_on_host(numerator)) {
    progress_.host.loss += host_scalar(numerator) * factor;
  } else {
    if (!std::exchange(progress_.adds_loss, true) && device_loss_.defined()) device_loss_.zero_();
    add_on_device(device_loss_, numerator, factor);
  }
}

// In place, from window to window: recorded backwards read and write it.
void GradientWindow::add_on_device(torch::Tensor& sum, const torch::Tensor& number, double factor) {
  const torch::NoGradGuard no_grad;
  if (!sum.defined()) sum = torch::zeros({}, number.options().dtype(torch::kFloat64));
  sum.add_(number.detach().reshape({}), factor);
}

void GradientWindow::take_as_one() {
  ++progress_.micro_batches;
  progress_.has_backward = true;
  progress_.is_foreign = true;
  progress_.host.weight = 1;
  expected_.set(1);
}

GradientWindow::Progress GradientWindow::progress() const {
  auto progress = progress_;
  progress.expected_weight = expected_.value();
  return progress;
}

void GradientWindow::set_progress(const Progress& progress) noexcept {
  progress_ = progress;
  expected_.set(progress.expected_weight);
}

void GradientWindow::advance(const Progress& before, const Progress& after) noexcept {
  auto now = after;
  now.micro_batches = progress_.micro_batches + (after.micro_batches - before.micro_batches);
  now.host.weight = progress_.host.weight + (after.host.weight - before.host.weight);
  now.knows_rows = progress_.knows_rows && after.knows_rows;
  set_progress(now);
}

WindowSums GradientWindow::sums() {
  WindowSums sums = progress_.host;
  if (!shards_.empty()) AddSums()(sums, shards_.take());
  if (progress_.adds_loss) sums.loss += host_scalar(device_loss_);
  if (progress_.adds_weight) sums.weight += host_scalar(device_weight_);
  return sums;
}

torch::Tensor GradientWindow::sums_on(c10::Device device) const {
  const auto on_device = [&](double host, bool adds, const torch::Tensor& part) {
    if (adds) return host == 0 ? part : part + host;
    return torch::full({}, host, torch::TensorOptions().dtype(torch::kFloat64).device(device));
  };
  return torch::stack({on_device(progress_.host.loss, progress_.adds_loss, device_loss_),
                       on_device(progress_.host.weight, progress_.adds_weight, device_weight_)});
}

Gradients GradientWindow::verdict(const WindowSums& sums) {
  check_weight(sums.weight);
  if (!std::isfinite(sums.loss) || !std::isfinite(sums.weight)) return Gradients::kNotFinite;
  return sums.weight == 0 ? Gradients::kEmpty : Gradients::kReady;
}

Gradients GradientWindow::close(const WindowSums& sums, const torch::optim::Optimizer& optimizer) {
  loss_ = mean(sums);
  const auto decided = verdict(sums);
  const double expected = expected_.value();
  if (decided == Gradients::kReady && sums.weight != expected) {
    multiply_gradients(optimizer, expected / sums.weight);
  }
  return decided;
}

// Whether the sum of weights is the expected one, as far as the host can tell. Ranks whose losses
// are means over rows have it when all of the window's micro-batches have come.
bool GradientWindow::has_expected_weight() const noexcept {
  if (expected_.is_weighted()) return false;
  if (expected_.is_alone()) return progress_.host.weight == expected_.value();
  return progress_.knows_rows && progress_.micro_batches == progress_.planned;
}

void GradientWindow::close(const torch::Tensor& sums,
                           const torch::optim::Optimizer& optimizer) const {
  if (has_expected_weight()) return;
  multiply_gradients(optimizer, expected_.value() / sums[1]);
}

void GradientWindow::reopen() noexcept {
  expected_.end_window();
  progress_ = {};
  shards_.clear();
}

}  // namespace torch_accelerated
