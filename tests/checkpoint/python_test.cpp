// SPDX-License-Identifier: Apache-2.0
// Files that Python's safetensors and PyTorch read. Needs a python3 that has both, which
// TORCH_ACCELERATED_PYTHON may name; skipped without.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cstdlib>
#include <filesystem>

#include "checkpoint/tensor_file.h"
#include "support/temp_dir.h"
#include "support/tiny.h"

namespace tests {
namespace {

using torch_accelerated::testing::TempDir;

std::string python() {
  const char* named = std::getenv("TORCH_ACCELERATED_PYTHON");
  return named == nullptr ? "python3" : named;
}

bool succeeds(const std::string& command) { return std::system(command.c_str()) == 0; }

TEST(Python, ReadsACheckpointsWeightsAndGivesTheSameLogits) {
  if (!succeeds(python() + " -c 'import safetensors, torch' 2>/dev/null")) {
    GTEST_SKIP() << "skipped: " << python() << " has no torch and safetensors";
  }
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
  const torch::NoGradGuard no_grad;
  ta::write_tensor_file(ta::system_io(), folder.path() / "expected.safetensors",
                        {{"data", data}, {"logits", net->forward(data)}});
  trainer.save_weights(folder.path() / "weights.safetensors");
  const auto checkpoint = ta::latest_checkpoint(folder.path() / "checkpoints");
  ASSERT_TRUE(checkpoint.has_value());
  const auto script =
      std::filesystem::path(__FILE__).parent_path().parent_path() / "reference/read_weights.py";
  for (const auto& file :
       {*checkpoint / "model.safetensors", folder.path() / "weights.safetensors"}) {
    EXPECT_TRUE(succeeds(python() + " " + script.string() + " " + file.string() + " " +
                         (folder.path() / "expected.safetensors").string()));
  }
}

}  // namespace
}  // namespace tests
