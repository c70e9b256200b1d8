// SPDX-License-Identifier: Apache-2.0
// Runs whose steps are captured on the CPU, and operations of a program's own for them.
#pragma once

#include <torch/library.h>

#include <functional>
#include <string>
#include <utility>

#include "support/captured_steps.h"

namespace tests::captured {

/// What it computes of a batch, `step`, is the loss.
class Trained : public CountingTrainer {
 public:
  using Step = std::function<torch::Tensor(torch::nn::Sequential&, const ta::Batch&)>;

  Trained(torch::nn::Sequential net, torch::optim::Optimizer& optimizer,
          ta::Accelerator& accelerator, Step step)
      : CountingTrainer(net, optimizer, accelerator), net_(net), step_(std::move(step)) {}

 protected:
  ta::StepOutput calculate_train_batch_loss(const ta::Batch& batch) override {
    ++steps;
    return {step_(net_, batch), {}, {}};
  }

 private:
  torch::nn::Sequential net_;
  Step step_;
};

struct Result {
  torch::nn::Sequential net;
  int steps;
};

inline Result trained(bool capture, const ta::Batch& rows, MakeNet make_net,
                      const Trained::Step& step,
                      ta::AcceleratorOptions options = {.device = "cpu"}) {
  torch::manual_seed(5);
  options.capture_graph = capture;
  ta::Accelerator accelerator(options);
  Result result{make_net(), 0};
  auto optimizer = nesterov(result.net);
  Trained trainer(result.net, optimizer, accelerator, step);
  trainer.train(rows, {.num_epochs = 3, .per_device_batch_size = 4});
  result.steps = trainer.steps;
  return result;
}

inline void expect_same_bits(const ta::Batch& rows, MakeNet make_net, const Trained::Step& step,
                             const ta::AcceleratorOptions& options = {.device = "cpu"}) {
  const auto plain = trained(false, rows, make_net, step, options);
  const auto captured = trained(true, rows, make_net, step, options);
  // The first update and one more as they are, one recorded, one to prove the recording.
  EXPECT_EQ(captured.steps, 4);
  EXPECT_TRUE(equal_bits(*captured.net, *plain.net));
}

inline torch::Tensor squares(torch::nn::Sequential& net, const ta::Batch& batch) {
  return torch::mse_loss(net->forward(batch["data"]), batch["target"]);
}

/// Operations of a program's own.
inline void define_operations() {
  static const auto library = [] {
    torch::Library made(torch::Library::DEF, "captured_step_tests", std::nullopt, __FILE__,
                        __LINE__);
    made.def("positive(Tensor x, bool only) -> Tensor");
    made.impl("positive", torch::kCPU, [](const torch::Tensor& x, bool only) {
      return only ? x.masked_select(x > 0) : x.where(x > 0, 1);
    });
    made.def("count(Tensor x, Tensor calls) -> Tensor");  // which it changes all the same
    made.impl("count", torch::kCPU, [](const torch::Tensor& x, torch::Tensor calls) {
      calls.add_(1);
      return x.clone();
    });
    made.def("look_at(Tensor x, Tensor calls) -> ()");
    made.impl("look_at", torch::kCPU,
              [](const torch::Tensor&, torch::Tensor calls) { calls.add_(1); });
    made.def("one_number(Tensor x) -> Tensor");
    made.impl("one_number", torch::kCPU,
              [](const torch::Tensor& x) { return x.sum().expand({4, 3}); });
    return made;
  }();
}

template <class Signature, class... Arguments>
auto own_operation(const std::string& name, Arguments&&... arguments) {
  define_operations();
  return c10::Dispatcher::singleton()
      .findSchemaOrThrow(("captured_step_tests::" + name).c_str(), "")
      .template typed<Signature>()
      .call(std::forward<Arguments>(arguments)...);
}

inline torch::Tensor positive(const torch::Tensor& x, bool only) {
  return own_operation<torch::Tensor(const torch::Tensor&, bool)>("positive", x, only);
}

}  // namespace tests::captured
