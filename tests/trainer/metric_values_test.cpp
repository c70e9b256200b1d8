// SPDX-License-Identifier: Apache-2.0
// What an added metric reports is that of the whole data at once, though the last batch is short.
#include <gmock/gmock.h>

#include "support/tiny.h"

namespace tests::metric_values_test {
namespace {

constexpr auto kFloat64 = torch::kFloat64;
constexpr double kTolerance = 1e-12;  // what fp64 sums in another order may differ by
constexpr std::int64_t kBatch = 4;

// A rate that moves no weight, so that all batches of an epoch meet one model.
struct Fixture {
  torch::nn::Sequential net = tiny_net(7, kFloat64);
  torch::optim::SGD optimizer = sgd(net, 1e-30);
  ta::Trainer trainer{net, torch::nn::CrossEntropyLoss(), optimizer, ta::CallbackList()};

  torch::Tensor scores(const ta::Batch& rows) {
    const torch::NoGradGuard no_grad;
    return net->forward(rows["data"]);
  }

  // Only the rows of the last, short batch have the class that the model gives them; rows weigh 0
  // in the first batch, then more and more.
  ta::Batch rows(std::int64_t count, std::uint64_t seed) {
    auto made = tiny_batch(count, seed, kFloat64);
    auto target = scores(made).argmax(1);
    const auto wrong = count - count % kBatch;
    target.slice(0, 0, wrong).add_(1).remainder_(3);
    made.set("target", target);
    made.set("weight", (torch::arange(count, kFloat64) - (kBatch - 1)).clamp_min(0));
    return made;
  }
};

torch::Tensor best_scores(const ta::TensorDict& outputs) { return outputs.only().amax(1); }

torch::Tensor mean_score(const ta::TensorDict& outputs, const ta::Batch&) {
  return best_scores(outputs).mean();
}

ta::Mean weighted_score(const ta::TensorDict& outputs, const ta::Batch& batch) {
  return {(best_scores(outputs) * batch["weight"]).sum(), batch["weight"].sum()};
}

void add_metrics(ta::Trainer& trainer) {
  trainer.add_metric("accuracy", ta::accuracy(), ta::MetricPhases::kTrainingAndEvaluation);
  trainer.add_metric("mean", mean_score, ta::MetricPhases::kTrainingAndEvaluation);
  trainer.add_metric("weighted", weighted_score, ta::MetricPhases::kTrainingAndEvaluation);
}

void expect_whole(const ta::MetricValues& metrics, const std::string& prefix, const ta::Batch& rows,
                  const torch::Tensor& scores) {
  const auto hits = static_cast<double>(rows.rows() % kBatch);
  EXPECT_DOUBLE_EQ(metrics[prefix + "accuracy"], hits / static_cast<double>(rows.rows()));
  const auto best = scores.amax(1);
  EXPECT_NEAR(metrics[prefix + "mean"], best.mean().item<double>(), kTolerance);
  const auto weighted = (best * rows["weight"]).sum() / rows["weight"].sum();
  EXPECT_NEAR(metrics[prefix + "weighted"], weighted.item<double>(), kTolerance);
}

// A mean of the batches' means would be 1/3 here for both accuracies.
TEST(MetricValues, OfATrainRunAreThoseOfTheWholeData) {
  for (const std::int64_t steps : {1, 2}) {
    Fixture f;
    add_metrics(f.trainer);
    const auto train = f.rows(11, 1);
    const auto eval = f.rows(9, 2);
    const auto result = f.trainer.train(train, {.num_epochs = 2,
                                                .eval_dataset = eval,
                                                .per_device_batch_size = kBatch,
                                                .gradient_accumulation_steps = steps,
                                                .train_loader = {.shuffle = false}});
    expect_whole(result.metrics, "train_", train, f.scores(train));
    expect_whole(result.metrics, "eval_", eval, f.scores(eval));
    EXPECT_EQ(f.trainer.history().latest("eval_accuracy"), result.metrics["eval_accuracy"]);
    EXPECT_EQ(f.trainer.history().latest("train_accuracy"), result.metrics["train_accuracy"]);
  }
}

TEST(MetricValues, OfAnEvaluationAloneAreThoseOfTheWholeDataForAnyBatchSize) {
  for (const std::int64_t size : {1, 3, 4, 11, 100}) {
    Fixture f;
    add_metrics(f.trainer);
    const auto rows = f.rows(11, 1);
    const auto result = f.trainer.evaluate(rows, {.per_device_batch_size = size});
    expect_whole(result.metrics, "eval_", rows, f.scores(rows));
  }
}

}  // namespace
}  // namespace tests::metric_values_test
