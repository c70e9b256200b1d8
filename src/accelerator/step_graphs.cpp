// SPDX-License-Identifier: Apache-2.0
#include "accelerator/step_graphs.h"

#include <utility>

#include "base/text.h"
#include "torch_accelerated/base/log.h"

namespace torch_accelerated {
namespace {

// Each has memory of its own for all that is between its inputs and its output.
constexpr std::size_t kMostSteps = 8;
constexpr std::size_t kMostSeen = 256;
constexpr int kMostChanges = 16;
constexpr int kMostDisagreements = 16;

Mean copy_of(const Mean& mean) {
  if (!mean.defined()) return mean;
  if (mean.is_over_rows()) return Mean(mean.numerator().clone());
  return {mean.numerator().clone(), mean.weight().clone()};
}

}  // namespace

StepOutput RecordedStep::replay(const Batch& batch, HostNumbers& numbers) {
  const torch::NoGradGuard no_grad;
  if (!std::exchange(is_done, false)) {
    for (const auto& [name, value] : batch) inputs[name].copy_(value, /*non_blocking=*/true);
    numbers.send();
    graph->replay();
  }
  auto given = output;
  given.loss = copy_of(output.loss);
  for (auto& [name, mean] : given.scalars) mean = copy_of(mean);
  return given;
}

StepGraphs::StepGraphs(std::unique_ptr<GraphDevice> device, c10::Device where)
    : device_(std::move(device)), numbers_(where) {}

void StepGraphs::keep_for(std::vector<std::uint64_t> fixed) {
  if (fixed == fixed_) return;
  if (++changes_ == kMostChanges) {
    warn(
        "what they go by has changed several times, such as momenta that a schedule moves, which "
        "parameters are trained, the modes of modules, or where tensors lie");
  }
  forget();
  fixed_ = std::move(fixed);
}

std::shared_ptr<RecordedStep> StepGraphs::find(const std::string& key) const {
  const auto found = steps_.find(key);
  return found == steps_.end() ? nullptr : found->second;
}

void StepGraphs::see(const std::string& key) {
  if (seen_.size() == kMostSeen) seen_.clear();
  seen_.insert(key);
}

bool StepGraphs::wants(const std::string& key) {
  if (!seen_.contains(key)) return false;
  if (steps_.size() < kMostSteps) return true;
  warn(concat("there are ", kMostSteps,
              " captured steps already, of other shapes or places in an update; pad batches to few "
              "shapes, or leave out the short one with drop_last"));
  return false;
}

void StepGraphs::add(const std::string& key, std::shared_ptr<RecordedStep> step) {
  steps_.insert_or_assign(key, std::move(step));
}

void StepGraphs::note_disagreement() {
  if (++disagreements_ != kMostDisagreements) return;
  warn(
      "the batches of some ranks come in shapes that those ranks have not had before, and all "
      "ranks "
      "replay together or not at all; pad batches to few shapes");
}

void StepGraphs::warn(const std::string& reason) {
  if (std::exchange(has_warned_, true)) return;
  log(LogLevel::kWarning, concat("capture_graph: some steps run as they are: ", reason));
}

void StepGraphs::forget() noexcept {
  steps_.clear();
  seen_.clear();
  numbers_.clear();
}

}  // namespace torch_accelerated
