// SPDX-License-Identifier: Apache-2.0
#include "accelerator/fused_step.h"

#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <c10/util/ParallelGuard.h>
#include <torch/torch.h>

#include <algorithm>
#include <bit>
#include <deque>
#include <optional>
#include <set>
#include <span>
#include <typeinfo>

#include "accelerator/fused_call.h"
#include "accelerator/host_numbers.h"
#include "core/host_scalar.h"
#include "torch_accelerated/base/error.h"

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

// CUDA's kernels read a rate that is in a tensor in float32; so that steps are the same recorded or
// not, one that isn't is rounded likewise, but where it would show.
double rate_for(const at::Tensor& parameter, double rate) {
  if (parameter.is_cpu() || parameter.scalar_type() == at::kDouble) return rate;
  return static_cast<double>(static_cast<float>(rate));
}

void add_places(std::vector<std::uint64_t>& fixed, std::initializer_list<at::Tensor> tensors) {
  for (const auto& tensor : tensors) {
    fixed.push_back(tensor.defined() ? reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr())
                                     : 0);
  }
}

void add_numbers(std::vector<std::uint64_t>& fixed, std::initializer_list<double> numbers) {
  for (const double number : numbers) fixed.push_back(std::bit_cast<std::uint64_t>(number));
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
    const Scope scope{calls_, flag_};
    if (!gather(suppressed)) return false;
    // The kernels make no momentum where they change nothing, so that the host has to know.
    if (suppressed.defined() && begins_any() && host_scalar(suppressed) != 0) {
      note_flagged({}, suppressed);
      return true;
    }
    if (suppressed.defined()) flag_ = suppressed;
    each_call([&](FusedCall& call, OptimizerParamGroup& group) { launch(call, group); });
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
    each_call([&](FusedCall& call, OptimizerParamGroup& group) {
      for (const auto& parameter : call.parameters) keys.push_back(parameter.unsafeGetTensorImpl());
      const auto rate = numbers.add([&group] { return group.options().get_lr(); });
      launch_recorded(call, group, rate.to(at::kFloat), numbers);
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
  virtual bool add(const at::Tensor& parameter, const OptimizerParamGroup& group,
                   FusedCalls& calls) = 0;

  virtual void launch(FusedCall& call, OptimizerParamGroup& group) = 0;

  /// The same while it is being recorded.
  /// @param rate  (), float32, on the device.
  virtual void launch_recorded(FusedCall& call, OptimizerParamGroup& group, const at::Tensor& rate,
                               HostNumbers& numbers) = 0;

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
  virtual void add_options(std::vector<std::uint64_t>& fixed, const OptimizerParamGroup& group) = 0;
  virtual void add_kept(std::vector<std::uint64_t>& fixed, const at::Tensor& parameter) = 0;

  TheOptimizer& optimizer() const noexcept { return optimizer_; }

  /// For the kernels: nothing where the step is taken in any case.
  const std::optional<at::Tensor>& flag() const noexcept { return flag_; }

 private:
  // Lets go of all tensors when a step ends.
  struct Scope {
    std::vector<FusedCalls>& calls;
    std::optional<at::Tensor>& flag;
    ~Scope() {
      for (auto& of_group : calls) of_group.clear();
      flag.reset();
    }
  };

  // Whether kernels fit all tensors, which the calls then have.
  bool gather(const at::Tensor& suppressed) {
    auto& groups = optimizer_.param_groups();
    calls_.resize(groups.size());
    for (std::size_t i = 0; i < groups.size(); ++i) {
      for (const auto& parameter : groups[i].params()) {
        if (!parameter.grad().defined()) continue;
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
                                       count_numbers(call.parameters) < kNumbersForThreads);
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
    launch(call, options, rate_for(call.parameters.front(), options.lr()), begins);
  }

  void launch_recorded(FusedCall& call, OptimizerParamGroup& group, const at::Tensor& rate,
                       HostNumbers& /*numbers*/) override {
    launch(call, static_cast<const Options&>(group.options()), rate, /*begins=*/false);
  }

  template <class Rate>
  void launch(FusedCall& call, const Options& options, const Rate& rate, bool begins) {
    at::_fused_sgd_(call.parameters, call.gradients, call.first, options.weight_decay(),
                    options.momentum(), rate, options.dampening(), options.nesterov(),
                    /*maximize=*/false, begins, /*grad_scale=*/std::nullopt, flag());
  }

  void add_options(std::vector<std::uint64_t>& fixed, const OptimizerParamGroup& group) override {
    const auto& options = static_cast<const Options&>(group.options());
    add_numbers(fixed, {options.momentum(), options.dampening(), options.weight_decay(),
                        options.nesterov() ? 1.0 : 0.0});
  }

  void add_kept(std::vector<std::uint64_t>& fixed, const at::Tensor& parameter) override {
    const auto* kept = kept_of<ParamState>(optimizer(), parameter);
    add_places(fixed, {kept != nullptr ? kept->momentum_buffer() : at::Tensor()});
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
      kept_or_made(parameter, options).step(call.step + 1);
    }
    // All tensors of a call have made the same steps, so that one count serves them.
    auto count = at::full({}, static_cast<double>(call.step + 1),
                          call.parameters.front().options().dtype(at::kFloat));
    if (!not_taken_.defined()) not_taken_ = at::zeros_like(count);
    if (!unheard_.empty() && call.step > 0) count -= not_taken_;
    launch(call, options, rate_for(call.parameters.front(), options.lr()), count);
  }

  void launch_recorded(FusedCall& call, OptimizerParamGroup& group, const at::Tensor& rate,
                       HostNumbers& numbers) override {
    const auto made = numbers.add([this, parameter = call.parameters.front()] {
      return static_cast<double>(kept_of<ParamState>(this->optimizer(), parameter)->step() + 1);
    });
    recorded_.insert(call.parameters);
    launch(call, static_cast<const Options&>(group.options()), rate,
           made.to(at::kFloat) - not_taken_);
  }

  template <class Rate>
  void launch(FusedCall& call, const Options& options, const Rate& rate, const at::Tensor& count) {
    for (const auto& parameter : call.parameters) {
      const auto& kept = *kept_of<ParamState>(this->optimizer(), parameter);
      call.first.push_back(kept.exp_avg());
      call.second.push_back(kept.exp_avg_sq());
      if (options.amsgrad()) call.largest.push_back(kept.max_exp_avg_sq());
    }
    const std::vector<at::Tensor> counts(call.parameters.size(), count);
    Types::launch(call.parameters, call.gradients, call.first, call.second, call.largest, counts,
                  rate, std::get<0>(options.betas()), std::get<1>(options.betas()),
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
    if (!keys.empty()) note_missed(suppressed);
  }

  // In place: recorded steps read and write it.
  void note_missed(const at::Tensor& suppressed) override { not_taken_.add_(suppressed); }

  void count_replay(const std::vector<void*>& keys) override {
    unheard_.push_back(keys);
    add_to_counts(keys, 1);
  }

  void hear(bool suppressed) override {
    if (unheard_.empty()) return;  // of steps before this object's
    const auto keys = std::move(unheard_.front());
    unheard_.pop_front();
    if (!suppressed || keys.empty()) return;
    add_to_counts(keys, -1);
    not_taken_.sub_(1);
  }

  void add_to_counts(const std::vector<void*>& keys, std::int64_t difference) {
    auto& state = this->optimizer().state();
    for (void* key : keys) {
      const auto kept = state.find(key);
      if (kept == state.end()) continue;
      auto& of_parameter = static_cast<ParamState&>(*kept->second);
      of_parameter.step(of_parameter.step() + difference);
    }
  }

  void add_options(std::vector<std::uint64_t>& fixed, const OptimizerParamGroup& group) override {
    const auto& options = static_cast<const Options&>(group.options());
    add_numbers(fixed, {std::get<0>(options.betas()), std::get<1>(options.betas()), options.eps(),
                        options.weight_decay(), options.amsgrad() ? 1.0 : 0.0});
  }

  void add_kept(std::vector<std::uint64_t>& fixed, const at::Tensor& parameter) override {
    const auto* kept = kept_of<ParamState>(this->optimizer(), parameter);
    if (kept == nullptr) return add_places(fixed, {at::Tensor()});
    add_places(fixed, {kept->exp_avg(), kept->exp_avg_sq(), kept->max_exp_avg_sq()});
  }

  std::uint64_t calls_that_fell_apart() override {
    const auto step_of = [this](const at::Tensor& parameter) {
      const auto* kept = kept_of<ParamState>(this->optimizer(), parameter);
      return kept == nullptr ? 0 : kept->step();
    };
    fell_apart_ += std::erase_if(recorded_, [&](const auto& parameters) {
      return std::any_of(parameters.begin(), parameters.end(), [&](const at::Tensor& parameter) {
        return step_of(parameter) != step_of(parameters.front());
      });
    });
    return fell_apart_;
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

  struct BySame {
    bool operator()(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) const {
      return std::lexicographical_compare(
          a.begin(), a.end(), b.begin(), b.end(), [](const at::Tensor& x, const at::Tensor& y) {
            return x.unsafeGetTensorImpl() < y.unsafeGetTensorImpl();
          });
    }
  };
  std::set<std::vector<at::Tensor>, BySame> recorded_;  // parameters of recorded calls
  std::uint64_t fell_apart_ = 0;
  std::deque<std::vector<void*>> unheard_;  // parameters of steps with a flag
  at::Tensor not_taken_;  // (), float32, on the device: of the steps that are counted and not heard
                          // of, those that it left out
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
