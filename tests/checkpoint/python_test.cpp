// SPDX-License-Identifier: Apache-2.0
// Files that Python's safetensors and PyTorch read; skipped where there is no such Python.
#include "support/python.h"

#include <gtest/gtest.h>

#include "support/temp_dir.h"
#include "support/tiny.h"

namespace tests::python_test {
namespace {

using torch_accelerated::testing::TempDir;

using Python = WithPython;

TEST_F(Python, ReadsACheckpointsWeightsAndGivesTheSameLogits) {
  const TempDir folder;
  torch::nn::Sequential net(torch::nn::Linear(784, 128), torch::nn::ReLU(),
                            torch::nn::Linear(128, 64), torch::nn::ReLU(),
                            torch::nn::Linear(64, 10));
  torch::optim::SGD optimizer(net->parameters(), 0.01);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer,
                      ta::CallbackList(ta::SaveCheckpoints()));
  const auto data = torch::rand({16, 784});
  trainer.train(ta::Batch{{"data", data}, {"target", torch::rand({16, 10})}},
                {.num_epochs = 2, .checkpoints = {.directory = folder.path() / "checkpoints"}});
  trainer.save_weights(folder.path() / "weights.safetensors");
  const auto checkpoint = ta::latest_checkpoint(folder.path() / "checkpoints");
  ASSERT_TRUE(checkpoint.has_value());
  for (const auto& file :
       {*checkpoint / "model.safetensors", folder.path() / "weights.safetensors"}) {
    EXPECT_TRUE(python_gives_the_same_logits(file, net, data, folder.path()));
  }
}

}  // namespace
}  // namespace tests::python_test
