// SPDX-License-Identifier: Apache-2.0
// A stranger's program: trains a model of two weights, and fails where it didn't learn.
#include <torch/torch.h>

#include <cstdio>

#include "torch_accelerated/torch_accelerated.h"

namespace ta = torch_accelerated;

int main() {
  torch::manual_seed(1);
  const torch::Tensor x = torch::rand({64, 2});
  const ta::Dataset dataset(ta::Batch{{"data", x}, {"target", 3 * x.sum(1, true) + 1}});

  torch::nn::Linear model(2, 1);
  torch::optim::SGD optimizer(model->parameters(), 0.1);
  ta::Trainer trainer(model, torch::nn::MSELoss(), optimizer, {});
  trainer.train(dataset, {.num_epochs = 40, .eval_dataset = dataset, .per_device_batch_size = 8});

  const double loss = trainer.evaluate(dataset).metrics["eval_loss"];
  std::printf("torch-accelerated %s, eval_loss %.6f\n", ta::kVersion, loss);
  return loss < 0.01 ? 0 : 1;
}
