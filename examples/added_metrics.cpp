// SPDX-License-Identifier: Apache-2.0
//
// Metrics that are added to a Trainer: functions of the model's outputs and the batch, called for
// each micro-batch and averaged over an epoch and all ranks. The stock accuracy stands beside two
// functions of the program: the first gives a Tensor, a mean over the batch's rows; the second a
// Mean with a weight of its own, as it is a mean over the rows that the model gets wrong, however
// many those are.
//
//   build/examples/added_metrics [--epochs N] [--images N] [--seed N]
//   mpirun -n 2 build/examples/added_metrics               the same on two ranks
//
// Ends near "accuracy 0.91, top 3 0.99, confidence 0.93, where wrong 0.73", within 0.05.
#include <torch/torch.h>
#include <torch_accelerated/torch_accelerated.h>

#include <cstdio>

#include "support/small_data.h"

namespace ta = torch_accelerated;

namespace {

/// How likely the model takes the digit to be that it names: (rows).
torch::Tensor confidences(const ta::TensorDict& outputs) {
  return outputs.only().softmax(1).amax(1);
}

torch::Tensor confidence(const ta::TensorDict& outputs, const ta::Batch&) {
  return confidences(outputs).mean();
}

ta::Mean confidence_where_wrong(const ta::TensorDict& outputs, const ta::Batch& batch) {
  const auto sure = confidences(outputs);
  const auto wrong = outputs.only().argmax(1).ne(batch["target"]).to(sure.dtype());
  return {sure.dot(wrong), wrong.sum()};
}

void train(const examples::SmallRun& run) {
  const auto digits = examples::small_digits(run);
  torch::manual_seed(run.seed);
  torch::nn::Sequential model(torch::nn::Flatten(), torch::nn::Linear(28 * 28, 64),
                              torch::nn::ReLU(), torch::nn::Linear(64, 10));
  torch::optim::AdamW optimizer(model->parameters(), 0.005);

  ta::Trainer trainer(model, torch::nn::CrossEntropyLoss(), optimizer);
  trainer.add_metric("accuracy", ta::accuracy(), ta::MetricPhases::kTrainingAndEvaluation);
  trainer.add_metric("top_3", ta::accuracy({.top_k = 3}));
  trainer.add_metric("confidence", confidence, ta::MetricPhases::kTrainingAndEvaluation);
  trainer.add_metric("confidence_where_wrong", confidence_where_wrong);

  const auto result = trainer.train(digits.train, {.num_epochs = run.epochs,
                                                   .eval_dataset = digits.eval,
                                                   .global_batch_size = run.global_batch_size,
                                                   .seed = run.seed});
  char line[96];
  std::snprintf(line, sizeof line, "accuracy %.2f, top 3 %.2f, confidence %.2f, where wrong %.2f",
                result.metrics["eval_accuracy"], result.metrics["eval_top_3"],
                result.metrics["eval_confidence"], result.metrics["eval_confidence_where_wrong"]);
  trainer.print(line);
}

}  // namespace

int main(int argc, char** argv) {
  return ta::run([&] {
    train(examples::parse_small_run(argc, argv, "Trains on digits, with four added metrics."));
  });
}
