// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "support/tiny.h"

namespace tests {

/// What a run ended with.
struct Ended {
  torch::nn::Sequential net;
  ta::RunResult result;
  std::vector<double> losses;  // of each update
};

/// Writes down the loss of each update.
class Losses : public ta::Callback {
 public:
  explicit Losses(std::vector<double>& losses) : losses_(&losses) {}
  void on_train_step_end(ta::Trainer& trainer, const ta::TrainStepEnd& event) override {
    if (event.update_ended) losses_->push_back(trainer.progress().loss);
  }

 private:
  std::vector<double>* losses_;
};

/// What is trained on, and how.
struct Setting {
  ta::TrainOptions options;
  ta::Dataset dataset;
  torch::Dtype dtype = torch::kFloat64;
  ta::LossFunction loss = torch::nn::MSELoss();
};

inline Ended train(const Setting& setting, ta::Accelerator& accelerator) {
  // Rank 0's weights count: the others' are drawn from other seeds.
  Ended ended{tiny_net(7 + static_cast<std::uint64_t>(accelerator.rank()), setting.dtype), {}, {}};
  auto optimizer = sgd(ended.net);
  ta::Trainer trainer(ended.net, setting.loss, optimizer, ta::CallbackList(Losses(ended.losses)),
                      &accelerator);
  trainer.add_metric("error", [](const ta::TensorDict& outputs, const ta::Batch& batch) {
    return ta::Mean((outputs.only() - batch["target"]).abs().mean());
  });
  ended.result = trainer.train(setting.dataset, setting.options);
  return ended;
}

/// Each is within `tolerance` of the other, relative to it.
inline void expect_near(const std::vector<double>& a, const std::vector<double>& b,
                        double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_NEAR(a[i], b[i], tolerance * std::abs(b[i])) << "at " << i;
  }
}

}  // namespace tests
