// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/trainer/batch_size_finder.h"

#include <gmock/gmock.h>

#include <new>

#include "support/tiny.h"

namespace tests::batch_size_finder_test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

using Throw = std::function<void()>;

void throw_device_error() { C10_THROW_ERROR(OutOfMemoryError, "CUDA out of memory"); }
void throw_host_error() {
  TORCH_CHECK(false, "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes");
}
void throw_bad_alloc() { throw std::bad_alloc(); }
void throw_typed() { throw ta::UserCodeError("no memory", ta::ExitCode::kOutOfMemory); }

// A batch normalisation, so that there are buffers, and a loss that has memory for `most` rows.
struct Fixture {
  std::int64_t most = 20;
  Throw out_of_memory = throw_bad_alloc;
  torch::nn::Sequential net{torch::nn::Linear(4, 8), torch::nn::BatchNorm1d(8), torch::nn::Tanh(),
                            torch::nn::Linear(8, 3)};
  ta::Batch data = tiny_batch(64);
  std::vector<std::int64_t> seen = {};  // rows of each micro-batch

  ta::LossFunction loss() {
    return [this](const torch::Tensor& output, const torch::Tensor& target) {
      seen.push_back(output.size(0));
      if (output.size(0) > most) out_of_memory();
      return torch::mse_loss(output, target);
    };
  }

  ta::Trainer trainer(torch::optim::Optimizer& optimizer, ta::CallbackList callbacks = {}) {
    return {net, loss(), optimizer, std::move(callbacks)};
  }

  std::vector<torch::Tensor> tensors() const {
    std::vector<torch::Tensor> copies;
    for (const auto& tensor : net->parameters()) copies.push_back(tensor.detach().clone());
    for (const auto& tensor : net->buffers()) copies.push_back(tensor.clone());
    return copies;
  }

  // The rows that were tried, those that didn't fit below zero.
  std::vector<std::int64_t> tried(const ta::BatchSizeFinderOptions& options) {
    auto optimizer = sgd(net);
    auto trainer = this->trainer(optimizer);
    const auto found = ta::find_batch_size(trainer, data, options);
    std::vector<std::int64_t> rows;
    std::int64_t largest = 0;
    for (const auto& trial : found.trials) {
      rows.push_back(trial.fits ? trial.rows : -trial.rows);
      if (trial.fits) largest = std::max(largest, trial.rows);
    }
    EXPECT_EQ(found.per_device_batch_size, largest);
    return rows;
  }
};

bool equal(const std::vector<torch::Tensor>& a, const std::vector<torch::Tensor>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), torch::equal);
}

TEST(BatchSizeFinder, DoublesWhileItFits) {
  for (const auto& out_of_memory :
       {throw_device_error, throw_host_error, throw_bad_alloc, throw_typed}) {
    Fixture f{.out_of_memory = out_of_memory};
    EXPECT_THAT(f.tried({.initial = 4}), ElementsAre(4, 8, 16, -32));
  }
}

TEST(BatchSizeFinder, KnowsWhatLibTorchThrowsWhereTheHostHasNoMemory) {
  Fixture f{.out_of_memory = [] { torch::empty({std::int64_t{1} << 55}, torch::kUInt8); }};
  EXPECT_THAT(f.tried({.initial = 16}), ElementsAre(16, -32));
}

TEST(BatchSizeFinder, HalvesWhereTheFirstDoesNotFit) {
  Fixture f{.most = 5};
  EXPECT_THAT(f.tried({.initial = 24}), ElementsAre(-24, -12, -6, 3));
}

TEST(BatchSizeFinder, EndsAtTheMaximumAndAtTheDatasetsRows) {
  Fixture f{.most = 1000};
  EXPECT_THAT(f.tried({.initial = 4, .maximum = 31}), ElementsAre(4, 8, 16));
  EXPECT_THAT(f.tried({.initial = 16}), ElementsAre(16, 32, 64));
  EXPECT_THAT(f.tried({.initial = 100}), ElementsAre(64));
}

TEST(BatchSizeFinder, MakesUpdatesOfWholeBatches) {
  Fixture f;
  f.tried({.initial = 16, .updates = 3});
  EXPECT_THAT(f.seen, ElementsAre(16, 16, 16, 32));
  f.seen.clear();
  f.tried({.initial = 40, .maximum = 40});
  EXPECT_THAT(f.seen, ElementsAre(40, 20, 20));
}

// Gradients of the first micro-batch take memory during the second one's forward.
TEST(BatchSizeFinder, AccumulatesGradientsWhereTheRunWould) {
  Fixture f{.most = 1000};
  const auto options = ta::BatchSizeFinderOptions{
      .initial = 64, .train = {.global_batch_size = 8, .gradient_accumulation_steps = 8}};
  f.tried(options);
  EXPECT_THAT(f.seen, ElementsAre(64, 64, 64, 64));
}

// Memory that the optimizer takes at its first step counts as well.
class Hungry : public torch::optim::SGD {
 public:
  using SGD::SGD;
  int steps = 0;
  torch::Tensor step(LossClosure closure) override {
    if (++steps == 6) throw std::bad_alloc();
    return SGD::step(std::move(closure));
  }
};

TEST(BatchSizeFinder, CountsTheStepOfTheOptimizer) {
  Fixture f;
  Hungry optimizer(f.net->parameters(), torch::optim::SGDOptions(0.1));
  auto trainer = f.trainer(optimizer);
  EXPECT_EQ(ta::find_batch_size(trainer, f.data, {.initial = 2}).per_device_batch_size, 4);
}

TEST(BatchSizeFinder, GivesEverythingBack) {
  const auto trained = [](bool with_finder) {
    const ta::SeedScope scope(5);
    Fixture f;
    torch::optim::AdamW optimizer(f.net->parameters(), torch::optim::AdamWOptions(0.01));
    std::vector<std::string> trace;
    auto trainer = f.trainer(optimizer, ta::CallbackList(RecordingCallback(trace)));
    trainer.train(f.data, {.num_epochs = 2, .per_device_batch_size = 16});
    f.net->eval();
    if (with_finder) {
      const auto before = f.tensors();
      const auto events = trace.size();
      EXPECT_EQ(ta::find_batch_size(trainer, f.data).per_device_batch_size, 16);
      EXPECT_TRUE(equal(before, f.tensors()));
      EXPECT_FALSE(f.net->is_training() || f.net[1]->is_training());
      EXPECT_EQ(trace.size(), events);
      EXPECT_EQ(trainer.history().rows().size(), 2U);
      EXPECT_EQ(trainer.run_config().num_epochs, 2);
      EXPECT_EQ(trainer.progress().update, 8);
      for (const auto& parameter : f.net->parameters()) EXPECT_FALSE(parameter.grad().defined());
    }
    const auto next_random = torch::rand({1});  // the program's own generator is as it was
    trainer.train(f.data, {.num_epochs = 1, .per_device_batch_size = 16});
    auto tensors = f.tensors();
    tensors.push_back(next_random);
    return tensors;
  };
  EXPECT_TRUE(equal(trained(false), trained(true)));
}

// A step that trains two modules by two optimizers.
class TwoModules : public ta::Trainer {
 public:
  TwoModules(const torch::nn::Sequential& net, const torch::nn::Sequential& other,
             torch::optim::Optimizer& optimizer, torch::optim::Optimizer& others)
      : Trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList()),
        other_(other),
        others_(&others) {
    register_module("other", other);
    add_optimizer("others", others);
  }

 protected:
  ta::StepOutput train_step(const ta::Batch& batch) override {
    if (batch.rows() > 8) throw std::bad_alloc();
    auto output = calculate_train_batch_loss(batch);
    optimize(output.loss, optimizer());
    optimize(torch::mse_loss(other_->forward(batch["data"]), batch["target"]), *others_);
    return output;
  }

 private:
  torch::nn::Sequential other_;
  torch::optim::Optimizer* others_;
};

TEST(BatchSizeFinder, GivesBackCompanionsAndFurtherOptimizers) {
  auto net = tiny_net(1);
  auto other = tiny_net(2);
  auto optimizer = sgd(net);
  auto others = sgd(other);
  TwoModules trainer(net, other, optimizer, others);
  EXPECT_EQ(ta::find_batch_size(trainer, tiny_batch(64), {.initial = 2}).per_device_batch_size, 8);
  EXPECT_TRUE(equal_bits(*net, *tiny_net(1)));
  EXPECT_TRUE(equal_bits(*other, *tiny_net(2)));
  EXPECT_TRUE(optimizer.state().empty() && others.state().empty());
}

TEST(BatchSizeFinder, PassesOtherExceptionsAndGivesEverythingBack) {
  Fixture f{.out_of_memory = [] { throw std::runtime_error("no more"); }};
  auto optimizer = sgd(f.net);
  std::vector<std::string> trace;
  auto trainer = f.trainer(optimizer, ta::CallbackList(RecordingCallback(trace)));
  const auto before = f.tensors();
  EXPECT_THAT(message_of<ta::UserCodeError>([&] { ta::find_batch_size(trainer, f.data); }),
              HasSubstr("no more"));
  EXPECT_TRUE(equal(before, f.tensors()));
  EXPECT_TRUE(optimizer.state().empty());
  EXPECT_TRUE(trace.empty());
  EXPECT_THROW(trainer.run_config(), ta::StateError);  // no run has been started
  trainer.train(f.data, {.num_epochs = 1});
  EXPECT_EQ(trace.front(), "on_init_end");
  EXPECT_EQ(trainer.history().rows().size(), 1U);
}

TEST(BatchSizeFinder, SaysThatNotEvenOneRowFits) {
  auto net = tiny_net();
  auto optimizer = sgd(net);
  Fixture f{.most = 0};
  ta::Trainer trainer(net, f.loss(), optimizer, ta::CallbackList());
  try {
    ta::find_batch_size(trainer, tiny_batch(64), {.initial = 2});
    FAIL() << "nothing was thrown";
  } catch (const ta::UserCodeError& error) {
    EXPECT_EQ(error.exit_code(), ta::ExitCode::kOutOfMemory);
    EXPECT_THAT(error.what(), AllOf(HasSubstr("not even one row fits"), HasSubstr("bad_alloc")));
  }
}

TEST(BatchSizeFinder, RefusesBadOptionsBeforeAnythingRuns) {
  Fixture f;
  auto optimizer = sgd(f.net);
  auto trainer = f.trainer(optimizer);
  const auto told = [&](const ta::BatchSizeFinderOptions& options) {
    return message_of<ta::ArgumentError>([&] { ta::find_batch_size(trainer, f.data, options); });
  };
  EXPECT_THAT(told({.initial = 16, .maximum = 8}),
              HasSubstr("maximum must be >= initial, 16, got 8"));
  EXPECT_THAT(
      told({.initial = 0, .maximum = 0, .updates = 0, .train = {.gradient_accumulation_steps = 0}}),
      AllOf(HasSubstr("initial must be >= 1, got 0"), HasSubstr("maximum must be >= initial"),
            HasSubstr("updates must be >= 1, got 0"),
            HasSubstr("gradient_accumulation_steps must be >= 1, got 0")));
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { ta::find_batch_size(trainer, {}); }),
              HasSubstr("the dataset is empty"));
  EXPECT_THAT(told({.train = {.clip_gradient_norm = -1.0}}), HasSubstr("clip_gradient_norm"));
  EXPECT_TRUE(f.seen.empty());
  trainer.start({});
  EXPECT_THAT(message_of<ta::StateError>([&] { ta::find_batch_size(trainer, f.data); }),
              HasSubstr("a run is going on"));
  trainer.step(tiny_batch(8));
  trainer.finish();
}

}  // namespace
}  // namespace tests::batch_size_finder_test
