// SPDX-License-Identifier: Apache-2.0
// The MNIST example's weights, read by Python; skipped where there is none that can.
#include <gmock/gmock.h>
#include <torch/torch.h>
#include <torch_accelerated/torch_accelerated.h>

#include "examples/run_example.h"
#include "support/digits.h"
#include "support/mnist_mlp.h"
#include "support/python.h"
#include "support/temp_dir.h"
#include "support/weights_hash.h"

namespace ta = torch_accelerated;

namespace tests::mnist_python_test {
namespace {

using torch_accelerated::testing::TempDir;

using PythonOnMnist = WithPython;

TEST_F(PythonOnMnist, ReadsTheExamplesWeightsAndGivesTheSameLogits) {
  const TempDir folder;
  const auto checkpoints = folder.path() / "checkpoints";
  const auto finished = run("mnist", "--epochs 1 --checkpoint-dir " + checkpoints.string());
  ASSERT_EQ(finished.status, 0) << finished.output;
  const auto weights = ta::latest_checkpoint(checkpoints).value() / "model.safetensors";

  auto model = examples::make_mnist_mlp();
  ta::load_weights(*model, weights);
  EXPECT_THAT(finished.output, testing::HasSubstr(examples::weights_sha256(*model)));
  const std::vector<std::int64_t> rows = {0, 1, 2, 3, 4, 5, 6, 7};
  const auto digits = examples::load_digits(std::nullopt, /*seed=*/1).test.get_batch(rows);
  EXPECT_TRUE(python_gives_the_same_logits(weights, model, digits["data"], folder.path()));
}

}  // namespace
}  // namespace tests::mnist_python_test
