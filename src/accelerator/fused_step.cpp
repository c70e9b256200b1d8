// SPDX-License-Identifier: Apache-2.0
#include "accelerator/fused_step.h"

#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <c10/util/ParallelGuard.h>
#include <torch/torch.h>

#include <algorithm>
#include <deque>
#include <optional>
#include <span>
#include <typeinfo>

#include "accelerator/fused_call.h"
#include "core/host_scalar.h"

namespace torch_accelerated {
namespace {

using torch::optim::Optimizer;
using torch::optim::OptimizerParamGroup;

// Below so many numbers a second thread takes longer to begin than to help.
constexpr std::int64_t kNumbersForThreads = std::int64_t{1} << 20;

std::int64_t count_numbers(const std::vector<at::Tensor>& tensors) {
  std::int64_t numbers = 0;
  for (const auto& tensor : tensors) numbers += tensor.numel();
  return numbers;
}

// What an optimizer keeps of `parameter`; null where it hasn't stepped it yet.
template <class ParamState>
ParamState* kept_of(Optimizer& optimizer, const at::Tensor& parameter) {
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
    auto& groups = optimizer_.param_groups();
    calls_.resize(groups.size());
    struct Scope {
      std::vector<FusedCalls>& calls;
      std::optional<at::Tensor>& flag;
      ~Scope() {
        for (auto& of_group : calls) of_group.clear();
        flag.reset();
      }
    } const scope{calls_, flag_};
    for (std::size_t i = 0; i < groups.size(); ++i) {
      for (const auto& parameter : groups[i].params()) {
        if (!parameter.grad().defined()) continue;
        if (!fits_fused_kernels(parameter) || !add(parameter, groups[i], calls_[i])) return false;
        if (suppressed.defined() && suppressed.device() != parameter.device()) return false;
      }
    }
    // The kernels make no momentum where they change nothing, so that the host has to know.
    if (suppressed.defined() && begins_any() && host_scalar(suppressed) != 0) {
      note_flagged({}, suppressed);
      return true;
    }
    if (suppressed.defined()) flag_ = suppressed;
    for (std::size_t i = 0; i < groups.size(); ++i) {
      for (auto& call : calls_[i].all()) {
        const c10::ParallelGuard alone(c10::ParallelGuard::is_enabled() ||
                                       count_numbers(call.parameters) < kNumbersForThreads);
        launch(call, groups[i]);
      }
    }
    if (suppressed.defined()) note_flagged(calls_, suppressed);
    return true;
  }

  void hear(bool /*suppressed*/) override {}

 protected:
  /// Adds the tensors of `parameter` to the calls of its group, all but those that are yet to be
  /// made.
  virtual bool add(const at::Tensor& parameter, const OptimizerParamGroup& group,
                   FusedCalls& calls) = 0;

  virtual void launch(FusedCall& call, OptimizerParamGroup& group) = 0;

  /// Takes note of a step of `calls` that the device takes only where `suppressed` is 0.
  virtual void note_flagged(std::span<FusedCalls> /*calls*/, const at::Tensor& /*suppressed*/) {}

  TheOptimizer& optimizer() const noexcept { return optimizer_; }

  /// For the kernels: nothing where the step is taken in any case.
  const std::optional<at::Tensor>& flag() const noexcept { return flag_; }

 private:
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

class FusedSgd final : public GroupedStep<torch::optim::SGD> {
 public:
  using GroupedStep::GroupedStep;

 private:
  using Options = torch::optim::SGDOptions;
  using ParamState = torch::optim::SGDParamState;

  bool add(const at::Tensor& parameter, const OptimizerParamGroup& group,
           FusedCalls& calls) override {
    const bool has_momentum = static_cast<const Options&>(group.options()).momentum() != 0;
    auto* kept = has_momentum ? kept_of<ParamState>(optimizer(), parameter) : nullptr;
    if (kept != nullptr && !lay_out_alike(kept->momentum_buffer(), parameter)) return false;
    // The kernel is told for all of a call whether the momentum begins.
    auto& call = calls.of(has_momentum && kept == nullptr ? 0 : 1, parameter);
    call.parameters.push_back(parameter);
    call.gradients.push_back(parameter.grad());
    if (kept != nullptr) call.first.push_back(kept->momentum_buffer());
    return true;
  }

  void launch(FusedCall& call, OptimizerParamGroup& group) override {
    const auto& options = static_cast<const Options&>(group.options());
    const bool begins = call.step == 0;
    if (begins) {
      for (const auto& parameter : call.parameters) {
        auto kept = std::make_unique<ParamState>();
        kept->momentum_buffer(at::empty_like(parameter));
        call.first.push_back(kept->momentum_buffer());
        optimizer().state()[parameter.unsafeGetTensorImpl()] = std::move(kept);
      }
    }
    at::_fused_sgd_(call.parameters, call.gradients, call.first, options.weight_decay(),
                    options.momentum(), options.lr(), options.dampening(), options.nesterov(),
                    /*maximize=*/false, begins, /*grad_scale=*/std::nullopt, flag());
  }
};

struct AdamTypes {
  using Optimizer = torch::optim::Adam;
  using Options = torch::optim::AdamOptions;
  using ParamState = torch::optim::AdamParamState;
  template <class... Arguments>
  static void launch(const Arguments&... arguments) {
    at::_fused_adam_(arguments...);
  }
};

struct AdamWTypes {
  using Optimizer = torch::optim::AdamW;
  using Options = torch::optim::AdamWOptions;
  using ParamState = torch::optim::AdamWParamState;
  template <class... Arguments>
  static void launch(const Arguments&... arguments) {
    at::_fused_adamw_(arguments...);
  }
};

template <class Types>
class FusedAdam final : public GroupedStep<typename Types::Optimizer> {
 public:
  using GroupedStep<typename Types::Optimizer>::GroupedStep;

 private:
  using Options = typename Types::Options;
  using ParamState = typename Types::ParamState;

  bool add(const at::Tensor& parameter, const OptimizerParamGroup& group,
           FusedCalls& calls) override {
    const bool amsgrad = static_cast<const Options&>(group.options()).amsgrad();
    auto* kept = kept_of<ParamState>(this->optimizer(), parameter);
    if (kept != nullptr && !(lay_out_alike(kept->exp_avg(), parameter) &&
                             lay_out_alike(kept->exp_avg_sq(), parameter) &&
                             (!amsgrad || lay_out_alike(kept->max_exp_avg_sq(), parameter)))) {
      return false;
    }
    auto& call = calls.of(kept != nullptr ? kept->step() : 0, parameter);
    call.parameters.push_back(parameter);
    call.gradients.push_back(parameter.grad());
    return true;
  }

  void launch(FusedCall& call, OptimizerParamGroup& group) override {
    const auto& options = static_cast<const Options&>(group.options());
    for (const auto& parameter : call.parameters) {
      auto& kept = kept_or_made(parameter, options);
      kept.step(call.step + 1);
      call.first.push_back(kept.exp_avg());
      call.second.push_back(kept.exp_avg_sq());
      if (options.amsgrad()) call.largest.push_back(kept.max_exp_avg_sq());
    }
    // All tensors of a call have made the same steps, so that one count serves them.
    auto count = at::full({}, static_cast<double>(call.step + 1),
                          call.parameters.front().options().dtype(at::kFloat));
    if (not_taken_.defined() && call.step > 0) count -= not_taken_;
    const std::vector<at::Tensor> counts(call.parameters.size(), count);
    Types::launch(call.parameters, call.gradients, call.first, call.second, call.largest, counts,
                  options.lr(), std::get<0>(options.betas()), std::get<1>(options.betas()),
                  options.weight_decay(), options.eps(), options.amsgrad(), /*maximize=*/false,
                  /*grad_scale=*/std::nullopt, this->flag());
  }

  void note_flagged(std::span<FusedCalls> calls, const at::Tensor& suppressed) override {
    auto& keys = unheard_.emplace_back();
    for (auto& of_group : calls) {
      for (const auto& call : of_group.all()) {
        for (const auto& parameter : call.parameters) {
          keys.push_back(parameter.unsafeGetTensorImpl());
        }
      }
    }
    if (!keys.empty()) not_taken_ = not_taken_.defined() ? not_taken_ + suppressed : suppressed;
  }

  void hear(bool suppressed) override {
    if (unheard_.empty()) return;  // of steps before this object's
    const auto keys = std::move(unheard_.front());
    unheard_.pop_front();
    if (suppressed && !keys.empty()) {
      auto& state = this->optimizer().state();
      for (void* key : keys) {
        const auto kept = state.find(key);
        if (kept == state.end()) continue;
        auto& of_parameter = static_cast<ParamState&>(*kept->second);
        of_parameter.step(of_parameter.step() - 1);
      }
      not_taken_ = not_taken_ - 1;
    }
    if (unheard_.empty()) not_taken_.reset();  // all of them have been taken back by now
  }

  ParamState& kept_or_made(const at::Tensor& parameter, const Options& options) {
    void* const key = parameter.unsafeGetTensorImpl();
    auto& kept = this->optimizer().state()[key];
    if (!kept) {
      auto made = std::make_unique<ParamState>();
      made->exp_avg(at::zeros_like(parameter));
      made->exp_avg_sq(at::zeros_like(parameter));
      if (options.amsgrad()) made->max_exp_avg_sq(at::zeros_like(parameter));
      kept = std::move(made);
    }
    return static_cast<ParamState&>(*kept);
  }

  std::deque<std::vector<void*>> unheard_;  // parameters of steps with a flag
  at::Tensor not_taken_;  // (), of the steps that are counted, those that the device left out
};

}  // namespace

std::unique_ptr<FusedStep> make_fused_step(Optimizer& optimizer) {
  const auto& type = typeid(optimizer);
  if (type == typeid(torch::optim::SGD)) {
    return std::make_unique<FusedSgd>(static_cast<torch::optim::SGD&>(optimizer));
  }
  if (type == typeid(torch::optim::Adam)) {
    return std::make_unique<FusedAdam<AdamTypes>>(static_cast<torch::optim::Adam&>(optimizer));
  }
  if (type == typeid(torch::optim::AdamW)) {
    return std::make_unique<FusedAdam<AdamWTypes>>(static_cast<torch::optim::AdamW&>(optimizer));
  }
  return nullptr;
}

}  // namespace torch_accelerated
