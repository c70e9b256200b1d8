// SPDX-License-Identifier: Apache-2.0
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <torch/torch.h>

#include <deque>
#include <set>

#include "accelerator/grouped_step.h"

namespace torch_accelerated {
namespace {

using torch::optim::OptimizerParamGroup;

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
    call.parameters.add(parameter);
    call.gradients.push_back(gradient_of(parameter));
    return true;
  }

  void launch(FusedCall& call, OptimizerParamGroup& group) override {
    const auto& options = static_cast<const Options&>(group.options());
    const auto parameters = call.parameters.all();
    for (const auto& parameter : parameters) {
      kept_or_made(parameter, options).step(call.step + 1);
    }
    // All tensors of a call have made the same steps, so that one count serves them.
    auto count = at::full({}, static_cast<double>(call.step + 1),
                          parameters.front().options().dtype(at::kFloat));
    if (!not_taken_.defined()) not_taken_ = at::zeros_like(count);
    if (!unheard_.empty() && call.step > 0) count -= not_taken_;
    launch(call, options, rate_for(parameters.front(), options.lr()), count);
  }

  void launch_recorded(FusedCall& call, OptimizerParamGroup& group, const at::Tensor& rate,
                       HostNumbers& numbers) override {
    const auto made = numbers.add([this, parameter = call.parameters.all().front()] {
      return static_cast<double>(kept_of<ParamState>(this->optimizer(), parameter)->step() + 1);
    });
    recorded_.insert(call.parameters.all().vec());
    launch(call, static_cast<const Options&>(group.options()), rate,
           made.to(at::kFloat) - not_taken_);
  }

  template <class Rate>
  void launch(FusedCall& call, const Options& options, const Rate& rate, const at::Tensor& count) {
    const auto parameters = call.parameters.all();
    for (const auto& parameter : parameters) {
      const auto& kept = *kept_of<ParamState>(this->optimizer(), parameter);
      call.first.add(kept.exp_avg());
      call.second.add(kept.exp_avg_sq());
      if (options.amsgrad()) call.largest.add(kept.max_exp_avg_sq());
    }
    const std::vector<at::Tensor> counts(parameters.size(), count);
    Types::launch(parameters, call.gradients, call.first.all(), call.second.all(),
                  call.largest.all(), counts, rate, std::get<0>(options.betas()),
                  std::get<1>(options.betas()), options.weight_decay(), options.eps(),
                  options.amsgrad(), /*maximize=*/false,
                  /*grad_scale=*/std::nullopt, this->flag());
  }

  void note_flagged(std::span<FusedCalls> calls, const at::Tensor& suppressed) override {
    auto& keys = unheard_.emplace_back();
    for (auto& of_group : calls) {
      for (const auto& call : of_group.all()) {
        for (const auto& parameter : call.parameters.all()) {
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

std::unique_ptr<FusedStep> make_fused_adam(torch::optim::Adam& optimizer) {
  return std::make_unique<FusedAdam<AdamTypes>>(optimizer);
}

std::unique_ptr<FusedStep> make_fused_adamw(torch::optim::AdamW& optimizer) {
  return std::make_unique<FusedAdam<AdamWTypes>>(optimizer);
}

}  // namespace torch_accelerated
