// SPDX-License-Identifier: Apache-2.0
#include <ATen/ops/_fused_sgd.h>
#include <torch/torch.h>

#include "accelerator/grouped_step.h"

namespace torch_accelerated {
namespace {

using torch::optim::OptimizerParamGroup;

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
    call.parameters.add(parameter);
    call.gradients.push_back(gradient_of(parameter));
    if (kept != nullptr) call.first.add(kept->momentum_buffer());
    return true;
  }

  void launch(FusedCall& call, OptimizerParamGroup& group) override {
    const auto& options = static_cast<const Options&>(group.options());
    const bool begins = call.step == 0;
    if (begins) {
      for (const auto& parameter : call.parameters.all()) {
        auto kept = std::make_unique<ParamState>();
        kept->momentum_buffer(at::empty_like(parameter));
        call.first.add(kept->momentum_buffer());
        optimizer().state()[parameter.unsafeGetTensorImpl()] = std::move(kept);
      }
    }
    launch(call, options, rate_for(call.parameters.all().front(), options.lr()), begins);
  }

  void launch_recorded(FusedCall& call, OptimizerParamGroup& group, const at::Tensor& rate,
                       HostNumbers& /*numbers*/) override {
    launch(call, static_cast<const Options&>(group.options()), rate, /*begins=*/false);
  }

  template <class Rate>
  void launch(FusedCall& call, const Options& options, const Rate& rate, bool begins) {
    at::_fused_sgd_(call.parameters.all(), call.gradients, call.first.all(), options.weight_decay(),
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

}  // namespace

std::unique_ptr<FusedStep> make_fused_sgd(torch::optim::SGD& optimizer) {
  return std::make_unique<FusedSgd>(optimizer);
}

}  // namespace torch_accelerated
