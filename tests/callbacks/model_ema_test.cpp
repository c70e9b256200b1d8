// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/model_ema.h"

#include <gmock/gmock.h>

#include <limits>
#include <stdexcept>

#include "callbacks/fails_after_loading.h"
#include "core/named_tensors.h"
#include "support/tiny.h"
#include "torch_accelerated/callbacks/early_stopping.h"

namespace tests::model_ema_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// 4-5-3 with a BatchNorm, so that there are floating and integer buffers; weights in `dtype`.
torch::nn::Sequential net_with_buffers(torch::Dtype dtype = torch::kFloat64) {
  const ta::SeedScope scope(7);
  torch::nn::Sequential net(torch::nn::Linear(4, 5), torch::nn::BatchNorm1d(5),
                            torch::nn::Linear(5, 3));
  net->to(dtype);
  auto count = net->named_buffers()["1.num_batches_tracked"];
  count.set_data(count.to(torch::kInt64));  // Module::to has changed that, too
  return net;
}

struct Fixture {
  explicit Fixture(const ta::ModelEmaOptions& options,
                   torch::nn::Sequential model = net_with_buffers())
      : net(std::move(model)) {
    trainer.callbacks().add(ta::ModelEma(options));
  }
  ta::ModelEma& ema() { return *trainer.callbacks().find<ta::ModelEma>(); }
  static ta::Batch rows(std::int64_t count, std::uint64_t seed = 1) {
    return tiny_batch(count, seed, torch::kFloat64);
  }

  torch::nn::Sequential net;
  torch::optim::SGD optimizer = sgd(net, 0.05);
  ta::Trainer trainer{net, torch::nn::MSELoss(), optimizer, ta::CallbackList()};
};

/// The average as it is defined, in the simplest way, of each weight-changing update.
class ByHand : public ta::Callback {
 public:
  ByHand(torch::nn::Sequential net, ta::ModelEmaOptions options)
      : net_(std::move(net)), options_(std::move(options)) {}

  void on_training_run_start(ta::Trainer&, const ta::TrainingRunStart&) override {
    expected = ta::copied(ta::named_tensors(*net_));
  }
  void on_train_step_end(ta::Trainer&, const ta::TrainStepEnd& event) override {
    if (!event.update_ended || event.update_skipped) return;
    if (++updates % options_.every_updates == 0) take();
  }
  void take() {
    const torch::NoGradGuard no_grad;
    const double t = static_cast<double>(steps++);
    double decay = options_.decay;
    if (options_.warmup) decay = std::min(decay, (1 + t) / (10 + t));
    for (const auto& [name, tensor] : ta::named_tensors(*net_)) {
      const bool averaged = tensor.is_floating_point();
      expected.set(name, averaged ? decay * expected[name] + (1 - decay) * tensor : tensor.clone());
    }
  }

  ta::TensorDict expected;
  std::int64_t updates = 0, steps = 0;

 private:
  torch::nn::Sequential net_;
  ta::ModelEmaOptions options_;
};

double difference(const ta::TensorDict& a, const ta::TensorDict& b) {
  double largest = a.size() == b.size() ? 0 : 1;
  for (const auto& [name, tensor] : a) {
    largest = std::max(largest, (tensor - b[name]).abs().max().to(torch::kFloat64).item<double>());
  }
  return largest;
}

// Also defect 17 of pytorch-accelerated: an average once per epoch.
TEST(ModelEma, AveragesAfterEachUpdateAsItsFormulaSays) {
  for (const auto& options : std::vector<ta::ModelEmaOptions>{
           {.decay = 0.9}, {.decay = 0.99, .warmup = true}, {.decay = 0.8, .every_updates = 3}}) {
    Fixture f(options);
    auto& by_hand = f.trainer.callbacks().add(ByHand(f.net, options));
    auto rows = Fixture::rows(40);
    rows["target"][13] = std::numeric_limits<double>::quiet_NaN();  // one update is skipped
    ta::set_log_level(ta::LogLevel::kError);
    const auto result = f.trainer.train(rows, {.num_epochs = 2,
                                               .per_device_batch_size = 4,
                                               .gradient_accumulation_steps = 2,
                                               .non_finite = ta::NonFinite::kSkip});
    ta::set_log_level(ta::LogLevel::kInfo);
    EXPECT_EQ(result.progress.skipped_updates, 2);
    EXPECT_EQ(by_hand.steps, options.every_updates == 3 ? 2 : 8);
    EXPECT_LT(difference(f.ema().averages(), by_hand.expected), 1e-12);
    EXPECT_TRUE(torch::equal(f.ema().averages()["1.num_batches_tracked"],
                             by_hand.expected["1.num_batches_tracked"]));
  }
  EXPECT_EQ(ta::ema_decay(0, {.warmup = true}), 0.1);
  EXPECT_EQ(ta::ema_decay(90, {.warmup = true}), 0.91);
  EXPECT_EQ(ta::ema_decay(1'000'000, {.decay = 0.99, .warmup = true}), 0.99);
}

TEST(ModelEma, SeesTheUpdateOfAWindowThatTheEpochsEndCloses) {
  Fixture f({.decay = 0.5});
  auto& by_hand = f.trainer.callbacks().add(ByHand(f.net, {.decay = 0.5}));
  f.trainer.start({.gradient_accumulation_steps = 2});
  for (std::uint64_t i = 0; i < 3; ++i) f.trainer.step(Fixture::rows(4, i));
  f.trainer.finish();
  by_hand.take();
  EXPECT_EQ(by_hand.steps, 2);
  EXPECT_LT(difference(f.ema().averages(), by_hand.expected), 1e-12);
}

TEST(ModelEma, IsEvaluatedInTheModelsPlaceAndLeavesTheModelAsItWas) {
  const ta::TrainOptions options{.num_epochs = 2,
                                 .eval_dataset = Fixture::rows(10, 2),
                                 .per_device_batch_size = 4,
                                 .gradient_accumulation_steps = 2};
  Fixture f({.decay = 0.9});
  f.trainer.callbacks().add(ta::EarlyStopping({.metric = "ema_eval_loss", .patience = 9}));
  f.trainer.train(Fixture::rows(20), options);
  const auto& row = f.trainer.history().rows().back().metrics;

  auto averaged = net_with_buffers();
  f.ema().copy_to(*averaged);
  auto unused = sgd(averaged);
  ta::Trainer other(averaged, torch::nn::MSELoss(), unused, ta::CallbackList());
  const auto expected = other.evaluate(options.eval_dataset, {.per_device_batch_size = 4});
  EXPECT_EQ(row["ema_eval_loss"], expected.metrics["eval_loss"]);
  EXPECT_NE(row["ema_eval_loss"], row["eval_loss"]);
  EXPECT_EQ(f.trainer.history().rows().size(), 2U);

  auto alone = net_with_buffers();
  auto optimizer = sgd(alone, 0.05);
  ta::Trainer plain(alone, torch::nn::MSELoss(), optimizer, ta::CallbackList());
  plain.train(Fixture::rows(20), options);
  EXPECT_EQ(difference(ta::named_tensors(*f.net), ta::named_tensors(*alone)), 0);

  // An evaluation alone is of the model.
  EXPECT_EQ(f.trainer.evaluate(options.eval_dataset).metrics.size(), 1U);
}

TEST(SwappedTensors, ExchangeDataAndNotTensors) {
  torch::nn::Linear net(2, 2);
  net->register_parameter("tied", net->weight);
  const auto tensors = ta::named_tensors(*net);
  EXPECT_EQ(tensors.size(), 2U);
  const auto* impl = net->weight.unsafeGetTensorImpl();
  const auto before = net->weight.detach().clone();
  const auto* memory = net->weight.data_ptr();
  net->forward(torch::ones({1, 2})).sum().backward();
  const auto gradient = net->weight.grad();
  // Halves, of which the values are kept in float32.
  auto values = ta::copied_for_sums(tensors);
  for (const auto& [name, value] : values) value.fill_(2);
  {
    const ta::SwappedTensors scope(values, tensors);
    EXPECT_EQ(net->weight.unsafeGetTensorImpl(), impl);
    EXPECT_TRUE(net->weight.requires_grad());
    EXPECT_EQ(net->forward(torch::ones({1, 2})).sum().item<double>(), 12);
    EXPECT_TRUE(net->weight.grad().is_same(gradient));
    EXPECT_TRUE(net->named_parameters()["tied"].eq(2).all().item<bool>());
  }
  EXPECT_EQ(net->weight.data_ptr(), memory);
  EXPECT_TRUE(torch::equal(net->weight, before));
  EXPECT_TRUE(values["weight"].eq(2).all().item<bool>());
}

TEST(ModelEma, AveragesHalvesInFloat32) {
  auto net = net_with_buffers(torch::kBFloat16);
  const auto tensors = ta::named_tensors(*net);
  auto averages = ta::copied_for_sums(tensors);
  for (const auto& [name, tensor] : averages) {
    if (tensor.is_floating_point()) tensor.fill_(1);
  }
  const torch::NoGradGuard no_grad;
  for (const auto& [name, tensor] : tensors) tensor.fill_(2);
  for (int i = 0; i < 10; ++i) ta::move_towards(tensors, 1e-4, averages);
  EXPECT_NEAR(averages["0.weight"][0][0].item<double>(), 2 - std::pow(1 - 1e-4, 10), 1e-6);
  EXPECT_EQ(averages["1.num_batches_tracked"].item<std::int64_t>(), 2);
  const ta::SwappedTensors scope(averages, tensors);
  EXPECT_EQ(net->parameters()[0].scalar_type(), torch::kBFloat16);
}

TEST(ModelEma, KeepsTheBestAndReplacesTheModelAtTheEnd) {
  // With so large a rate the loss gets worse and worse.
  Fixture f({.decay = 0.1, .keep_best = "ema_eval_loss", .replace_at_end = true});
  f.optimizer = sgd(f.net, 1.5);
  f.trainer.train(
      Fixture::rows(16),
      {.num_epochs = 4, .eval_dataset = Fixture::rows(8, 3), .per_device_batch_size = 8});
  const auto losses = f.trainer.history().values("ema_eval_loss");
  const auto best = std::min_element(losses.begin(), losses.end());
  ASSERT_NE(best, losses.end() - 1);
  EXPECT_EQ(f.ema().best()->value, *best);
  EXPECT_EQ(f.ema().best()->epoch, best - losses.begin() + 1);
  EXPECT_EQ(difference(ta::named_tensors(*f.net), f.ema().best_averages()), 0);
  EXPECT_EQ(f.trainer.evaluate(Fixture::rows(8, 3)).metrics["eval_loss"], *best);

  Fixture newest({.decay = 0.9, .replace_at_end = true});
  newest.trainer.train(Fixture::rows(16), {.num_epochs = 1});
  EXPECT_EQ(difference(ta::named_tensors(*newest.net), newest.ema().averages()), 0);
}

// Defect 17 of pytorch-accelerated: the average wasn't in the state.
TEST(ModelEma, GoesOnFromItsState) {
  const ta::ModelEmaOptions options{.decay = 0.95, .warmup = true};
  Fixture first(options);
  first.optimizer = sgd(first.net, 0.05, 0.0);  // nothing but the weights to go on from
  first.trainer.start({});
  first.trainer.step(Fixture::rows(8, 1));
  const auto state = first.ema().state();
  const auto weights = ta::copied(ta::named_tensors(*first.net));
  first.trainer.step(Fixture::rows(8, 2));
  const auto expected = ta::copied(first.ema().averages());

  // The state is a copy, and this is what loading it into a run that goes on gives.
  first.ema().load_state(state);
  EXPECT_EQ(difference(first.ema().averages(), state.part("average").tensors()), 0);

  Fixture second(options);
  ta::copy_into(weights, ta::named_tensors(*second.net), "test");
  second.ema().load_state(state);
  second.optimizer = sgd(second.net, 0.05, 0.0);
  second.trainer.start({});
  second.trainer.step(Fixture::rows(8, 2));
  EXPECT_EQ(difference(second.ema().averages(), expected), 0);
  EXPECT_EQ(second.ema().state().get<std::int64_t>("steps"), 2);

  Fixture other(options, tiny_net(7, torch::kFloat64));
  other.ema().load_state(state);
  EXPECT_THAT(message_of<ta::StateError>([&] { other.trainer.start({}); }),
              HasSubstr("another model's"));
  EXPECT_THROW(other.ema().load_state({}), ta::StateError);
}

TEST(ModelEma, BeginsAnewAfterARunThatFailedWhileItWentOn) {
  Fixture first({.decay = 0.5});
  first.trainer.train(Fixture::rows(8), {.num_epochs = 1});
  Fixture second({.decay = 0.5});
  second.trainer.callbacks().add(FailsAfterLoading<ta::ModelEma>(first.ema().state()));
  EXPECT_THROW(second.trainer.train(Fixture::rows(8), {.num_epochs = 1}), ta::UserCodeError);
  second.trainer.start({});
  EXPECT_EQ(second.ema().state().get<std::int64_t>("steps"), 0);
  EXPECT_EQ(difference(second.ema().averages(), ta::named_tensors(*second.net)), 0);
}

TEST(ModelEma, BeginsAnewFromAStateOfNoRun) {
  const auto fresh = ta::ModelEma().state();
  Fixture f({.decay = 0.5});
  for (int run = 0; run < 2; ++run) {  // before a run of its own, and after one
    f.ema().load_state(fresh);
    f.trainer.start({});
    EXPECT_EQ(difference(f.ema().averages(), ta::named_tensors(*f.net)), 0);
    f.trainer.step(Fixture::rows(8));
    f.trainer.finish();
    EXPECT_EQ(f.ema().state().get<std::int64_t>("steps"), 1);
  }
  f.trainer.start({});
  f.ema().load_state(fresh);
  f.trainer.step(Fixture::rows(8));  // averages on from the model that it was loaded beside
  EXPECT_EQ(f.ema().state().get<std::int64_t>("steps"), 1);
}

/// Throws in the second batch of an evaluation beside the run's own.
class FailsInNestedEvaluation : public ta::Callback {
 public:
  explicit FailsInNestedEvaluation(torch::nn::Sequential net) : net_(std::move(net)) {}

  void on_training_run_start(ta::Trainer&, const ta::TrainingRunStart&) override {
    net_[1]->eval();  // kept so by a program of its own
  }
  void on_train_epoch_end(ta::Trainer&, const ta::TrainEpochEnd&) override {
    trained = ta::copied(ta::named_tensors(*net_));
    memory = net_->parameters()[0].data_ptr();
  }
  void on_eval_epoch_start(ta::Trainer&, const ta::EvalEpochStart& event) override {
    is_nested_ = event.is_intermediate;
  }
  void on_eval_step_end(ta::Trainer&, const ta::EvalStepEnd& event) override {
    if (!is_nested_ || event.batch_index == 0) return;
    averages_were_in = difference(trained, ta::named_tensors(*net_)) > 0;
    throw std::runtime_error("the evaluation fails");
  }

  ta::TensorDict trained;
  const void* memory = nullptr;
  bool averages_were_in = false;

 private:
  torch::nn::Sequential net_;
  bool is_nested_ = false;
};

TEST(ModelEma, GivesWeightsAndModesBackWhenItsEvaluationFails) {
  Fixture f({.decay = 0.9});
  auto& failing = f.trainer.callbacks().add(FailsInNestedEvaluation(f.net));
  EXPECT_THAT(message_of<ta::UserCodeError>([&] {
                f.trainer.train(Fixture::rows(16), {.num_epochs = 1,
                                                    .eval_dataset = Fixture::rows(8, 2),
                                                    .per_device_batch_size = 4});
              }),
              HasSubstr("the evaluation fails"));
  EXPECT_TRUE(failing.averages_were_in);
  EXPECT_EQ(difference(failing.trained, ta::named_tensors(*f.net)), 0);
  EXPECT_EQ(f.net->parameters()[0].data_ptr(), failing.memory);
  EXPECT_TRUE(f.net->is_training());
  EXPECT_TRUE(f.net[0]->is_training());
  EXPECT_FALSE(f.net[1]->is_training());
}

TEST(ModelEma, RefusesOptionsAllAtOnceAndACopyOfNothing) {
  for (const double decay : {-0.1, 1.1, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_THAT(message_of<ta::ArgumentError>(
                    [&] { ta::ModelEma({.decay = decay, .every_updates = 0, .prefix = ""}); }),
                AllOf(HasSubstr("ModelEma: decay must be in [0, 1], got"),
                      HasSubstr("every_updates must be >= 1, got 0"), HasSubstr("prefix")));
  }
  EXPECT_THROW(ta::ModelEma().copy_to(*tiny_net()), ta::StateError);
  Fixture f({.keep_best = "ema_eval_los"});
  EXPECT_THAT(message_of<ta::ArgumentError>([&] {
                f.trainer.train(Fixture::rows(4),
                                {.num_epochs = 1, .eval_dataset = Fixture::rows(4)});
              }),
              HasSubstr("did you mean 'ema_eval_loss'"));
}

}  // namespace
}  // namespace tests::model_ema_test
