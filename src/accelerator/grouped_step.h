// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/util/ParallelGuard.h>
#include <torch/torch.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "accelerator/fused_call.h"
#include "accelerator/fused_step.h"
#include "accelerator/host_numbers.h"
#include "core/gradient_of.h"
#include "core/host_scalar.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {

/// Below so many numbers a second thread takes longer to begin than to help.
inline constexpr std::int64_t kNumbersForThreads = std::int64_t{1} << 20;

inline std::int64_t count_numbers(at::TensorList tensors) {
  std::int64_t numbers = 0;
  for (const auto& tensor : tensors) numbers += tensor.numel();
  return numbers;
}

/// CUDA's kernels read a rate that is in a tensor in float32; so that steps are the same recorded
/// or not, one that isn't is rounded likewise, but where it would show.
inline double rate_for(const at::Tensor& parameter, double rate) {
  if (parameter.is_cpu() || parameter.scalar_type() == at::kDouble) return rate;
  return static_cast<double>(static_cast<float>(rate));
}

/// Adds where tensors lie, and numbers, to what a recorded step would not notice.
inline void add_places(std::vector<std::uint64_t>& fixed,
                       std::initializer_list<at::Tensor> tensors) {
  for (const auto& tensor : tensors) {
    fixed.push_back(tensor.defined() ? reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr())
                                     : 0);
  }
}

inline void add_numbers(std::vector<std::uint64_t>& fixed, std::initializer_list<double> numbers) {
  for (const double number : numbers) fixed.push_back(std::bit_cast<std::uint64_t>(number));
}

/// What an optimizer keeps of `parameter`; null where it hasn't stepped it yet.
template <class ParamState>
ParamState* kept_of(torch::optim::Optimizer& optimizer, const at::Tensor& parameter) {
  const auto found = optimizer.state().find(parameter.unsafeGetTensorImpl());
  return found == optimizer.state().end() ? nullptr : static_cast<ParamState*>(found->second.get());
}

/// Goes through the groups: first all tensors are gathered, and only where all fit is one changed.
template <class TheOptimizer>
class GroupedStep : public FusedStep {
 public:
  explicit GroupedStep(TheOptimizer& optimizer) : optimizer_(optimizer) {}

  bool take(const at::Tensor& suppressed) override {
    const at::NoGradGuard no_grad;
    const Scope scope{calls_, flag_};
    if (!gather(suppressed)) return false;
    // The kernels make no momentum where they change nothing, so that the host has to know.
    if (suppressed.defined() && begins_any() && host_scalar(suppressed) != 0) {
      note_flagged({}, suppressed);
      return true;
    }
    if (suppressed.defined()) flag_ = suppressed;
    each_call(
        [&](FusedCall& call, torch::optim::OptimizerParamGroup& group) { launch(call, group); });
    if (suppressed.defined()) note_flagged(calls_, suppressed);
    return true;
  }

  std::function<void()> record(const at::Tensor& suppressed, HostNumbers& numbers) override {
    const at::NoGradGuard no_grad;
    const Scope scope{calls_, flag_};
    if (!gather(suppressed) || begins_any()) {
      throw StateError(
          "the optimizer's fused kernels don't fit all gradients of this step, or it is the first "
          "one of a parameter");
    }
    flag_ = suppressed;
    std::vector<void*> keys;
    each_call([&](FusedCall& call, torch::optim::OptimizerParamGroup& group) {
      for (const auto& parameter : call.parameters.all()) {
        keys.push_back(parameter.unsafeGetTensorImpl());
      }
      const auto rate = numbers.add([&group] { return group.options().get_lr(); });
      launch_recorded(call, group, rate.is_cpu() ? rate : rate.to(at::kFloat), numbers);
    });
    note_missed(suppressed);
    return [this, keys = std::move(keys)] { count_replay(keys); };
  }

  void add_fixed(std::vector<std::uint64_t>& fixed) override {
    for (auto& group : optimizer_.param_groups()) {
      fixed.push_back(group.params().size());
      add_options(fixed, group);
      for (const auto& parameter : group.params()) {
        fixed.push_back(parameter.requires_grad() ? 1 : 0);
        add_places(fixed, {parameter});
        add_kept(fixed, parameter);
      }
    }
    fixed.push_back(calls_that_fell_apart());
  }

  void hear(bool /*suppressed*/) override {}

 protected:
  /// Adds the tensors of `parameter` to the calls of its group, all but those that are yet to be
  /// made.
  virtual bool add(const at::Tensor& parameter, const torch::optim::OptimizerParamGroup& group,
                   FusedCalls& calls) = 0;

  virtual void launch(FusedCall& call, torch::optim::OptimizerParamGroup& group) = 0;

  /// The same while it is being recorded.
  /// @param rate  (), on the device; float32, which CUDA's kernels need, and on the CPU float64.
  virtual void launch_recorded(FusedCall& call, torch::optim::OptimizerParamGroup& group,
                               const at::Tensor& rate, HostNumbers& numbers) = 0;

  /// Takes note of a step of `calls` that the device takes only where `suppressed` is 0.
  virtual void note_flagged(std::span<FusedCalls> /*calls*/, const at::Tensor& /*suppressed*/) {}

  /// Has the device take note of a step that it leaves out.
  virtual void note_missed(const at::Tensor& /*suppressed*/) {}

  /// Takes note of a replay of a step of the parameters that have `keys`.
  virtual void count_replay(const std::vector<void*>& /*keys*/) {}

  /// How often tensors of one recorded call have made different steps by now, so that its count
  /// doesn't serve them all.
  virtual std::uint64_t calls_that_fell_apart() { return 0; }

  /// What `add_fixed` adds of a group's options and of what is kept of a parameter.
  virtual void add_options(std::vector<std::uint64_t>& fixed,
                           const torch::optim::OptimizerParamGroup& group) = 0;
  virtual void add_kept(std::vector<std::uint64_t>& fixed, const at::Tensor& parameter) = 0;

  TheOptimizer& optimizer() const noexcept { return optimizer_; }

  /// For the kernels: nothing where the step is taken in any case.
  const std::optional<at::Tensor>& flag() const noexcept { return flag_; }

 private:
  // Lets go of the gradients when a step ends.
  struct Scope {
    std::vector<FusedCalls>& calls;
    std::optional<at::Tensor>& flag;
    ~Scope() {
      for (auto& of_group : calls) of_group.end();
      flag.reset();
    }
  };

  // Whether kernels fit all tensors, which the calls then have.
  bool gather(const at::Tensor& suppressed) {
    auto& groups = optimizer_.param_groups();
    calls_.resize(groups.size());
    for (std::size_t i = 0; i < groups.size(); ++i) {
      calls_[i].begin();
      for (const auto& parameter : groups[i].params()) {
        if (!gradient_of(parameter).defined()) continue;
        if (!fits_fused_kernels(parameter) || !add(parameter, groups[i], calls_[i])) return false;
        if (suppressed.defined() && suppressed.device() != parameter.device()) return false;
      }
    }
    return true;
  }

  template <class Launch>
  void each_call(const Launch& launch_one) {
    auto& groups = optimizer_.param_groups();
    for (std::size_t i = 0; i < groups.size(); ++i) {
      for (auto& call : calls_[i].all()) {
        const c10::ParallelGuard alone(c10::ParallelGuard::is_enabled() ||
                                       count_numbers(call.parameters.all()) < kNumbersForThreads);
        launch_one(call, groups[i]);
      }
    }
  }

  bool begins_any() {
    return std::any_of(calls_.begin(), calls_.end(), [](FusedCalls& of_group) {
      const auto calls = of_group.all();
      return std::any_of(calls.begin(), calls.end(),
                         [](const FusedCall& call) { return call.step == 0; });
    });
  }

  TheOptimizer& optimizer_;
  std::vector<FusedCalls> calls_;  // of each group
  std::optional<at::Tensor> flag_;
};

/// The steps of each type, whatever is derived from it.
std::unique_ptr<FusedStep> make_fused_sgd(torch::optim::SGD& optimizer);
std::unique_ptr<FusedStep> make_fused_adam(torch::optim::Adam& optimizer);
std::unique_ptr<FusedStep> make_fused_adamw(torch::optim::AdamW& optimizer);

}  // namespace torch_accelerated
