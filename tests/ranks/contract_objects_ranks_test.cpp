// SPDX-License-Identifier: Apache-2.0
// Optimizers, schedulers, callbacks, metrics and libraries that must be the same on all ranks.
#include <algorithm>
#include <cctype>

#include "ranks/refusals.h"

namespace tests::contract_objects_ranks_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

template <class Optimizer, class Options>
Change optimizes(Options options) {
  return [options](Side& side) {
    side.optimizer = [options](const torch::nn::Module& net) {
      return std::make_unique<Optimizer>(net.parameters(), options);
    };
  };
}

std::vector<Variant> other_optimizers() {
  using torch::optim::Adam;
  using torch::optim::AdamOptions;
  using torch::optim::AdamW;
  using torch::optim::AdamWOptions;
  using torch::optim::SGD;
  using torch::optim::SGDOptions;
  const auto momentum = [](double value) {
    return optimizes<SGD>(SGDOptions(0.1).momentum(value));
  };
  const auto decay = [](double value) {
    return optimizes<AdamW>(AdamWOptions(0.1).weight_decay(value));
  };
  const auto beta = [](double value) {
    return optimizes<Adam>(AdamOptions(0.1).betas(std::make_tuple(value, 0.999)));
  };
  return {
      {"optimizer", "lr 0.1", "lr 0.2", optimizes<SGD>(SGDOptions(0.2).momentum(0.9))},
      {"optimizer", "SGD", "AdamW", decay(0.125)},
      {"optimizer", "momentum 0.9", "momentum 0.5", momentum(0.5)},
      {"optimizer", "weight_decay 0.125", "weight_decay 0.25", decay(0.25), decay(0.125)},
      {"optimizer", "betas 0.75", "betas 0.5", beta(0.5), beta(0.75)},
      {"optimizer", "dampening 0", "dampening 0.5",
       optimizes<SGD>(SGDOptions(0.1).momentum(0.9).dampening(0.5))},
  };
}

TEST(RankContract, OptimizersThatDifferInOneNumberAreRefused) {
  ta::Accelerator ranks;
  expect_refused(ranks, other_optimizers());
}

TEST(RankContract, AnotherOrderOfTheOptimizersParametersIsRefused) {
  ta::Accelerator ranks;
  if (ranks.world_size() == 1) return;
  torch::nn::Sequential net(torch::nn::Linear(3, 3), torch::nn::Linear(3, 3));
  auto parameters = net->parameters();
  if (ranks.rank() == 1) std::swap(parameters[0], parameters[2]);  // equal in shape
  torch::optim::SGD optimizer(parameters, 0.1);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &ranks);
  const ta::Batch rows{{"data", torch::zeros({8, 3})}, {"target", torch::zeros({8, 3})}};
  const auto text =
      error_on_all_ranks([&] { trainer.train(rows, {.num_epochs = 1, .global_batch_size = 8}); });
  EXPECT_THAT(text, AllOf(HasSubstr("optimizer 'optimizer' parameter is '0.weight' on rank 0"),
                          HasSubstr("'1.weight' on rank 1")));
}

std::vector<Variant> other_schedulers() {
  const auto schedules = [](ta::SchedulerFactory factory) {
    return [factory = std::move(factory)](Side& side) {
      side.options.num_epochs = 4;  // of 2 updates
      side.options.eval_dataset = tiny_batch(4);
      side.options.scheduler = factory;
    };
  };
  // With each of these pairs, the first update has one rate and one momentum on all ranks.
  return {
      {"scheduler", "", "", schedules(ta::cosine({.warmup_updates = 3})),
       schedules(ta::cosine({.warmup_updates = 2}))},
      {"scheduler", "", "", schedules(ta::cosine({.k_decay = 2})), schedules(ta::cosine())},
      {"scheduler", "", "", schedules(ta::one_cycle({.min_momentum = 0.5})),
       schedules(ta::one_cycle())},
      {"scheduler", "17", "23", schedules(ta::reduce_on_plateau({.patience = 23})),
       schedules(ta::reduce_on_plateau({.patience = 17}))},
  };
}

TEST(RankContract, SchedulersThatDifferLaterOnlyAreRefused) {
  ta::Accelerator ranks;
  expect_refused(ranks, other_schedulers());
}

template <class Make>
Change calls(Make make) {
  return [make](Side& side) {
    side.options.eval_dataset = tiny_batch(4);
    side.callbacks = [make] { return ta::CallbackList(make()); };
  };
}

/// A program's own that keeps something for a checkpoint, and asks nothing of the run.
class Remembering : public ta::Callback {
 public:
  std::string name() const override { return "Remembering"; }
  ta::State state() const override { return ta::State().set("seen", std::int64_t{3}); }
};

/// A program's own that neither keeps nor asks anything.
class Watching : public ta::Callback {
 public:
  std::string name() const override { return "Watching"; }
  std::string settings() const override { return "of one rank"; }
};

/// Something that all ranks must have.
class Voting : public ta::Callback {
 public:
  explicit Voting(std::string how) : how_(std::move(how)) {}
  bool concerns_all_ranks() const override { return true; }
  std::string name() const override { return "Voting"; }
  std::string settings() const override { return how_; }

 private:
  std::string how_;
};

std::vector<Variant> other_callbacks() {
  const auto evaluates = [](std::int64_t updates) {
    return calls([updates] { return ta::StepBasedEvaluation({.every_updates = updates}); });
  };
  const auto stops = [](std::int64_t patience) {
    return calls([patience] { return ta::EarlyStopping({.patience = patience}); });
  };
  const auto votes = [](const char* how) { return calls([how] { return Voting(how); }); };
  const auto none = [](Side& side) { side.options.eval_dataset = tiny_batch(4); };
  return {
      {"callback", "", "Voting", votes("by hand"), none},
      {"callback", "Voting: by hand", "Voting: by post", votes("by post"), votes("by hand")},
      {"callback", "StepBasedEvaluation", "EarlyStopping", stops(1), evaluates(1)},
      {"callback", "17", "23", evaluates(23), evaluates(17)},
      {"callback", "17", "23", stops(23), stops(17)},
      {"callback", "", "Remembering", calls([] { return Remembering(); }), none},
  };
}

TEST(RankContract, CallbacksThatVoteOrKeepStateAreTheSameOnAll) {
  ta::Accelerator ranks;
  expect_refused(ranks, other_callbacks());
}

TEST(RankContract, CallbacksThatOnlyObserveMayBeOnOneRank) {
  ta::Accelerator ranks;
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &ranks);
  if (ranks.rank() == 0) trainer.callbacks().add(Watching());
  EXPECT_EQ(trainer.train(tiny_batch(8), {.num_epochs = 1, .global_batch_size = 8}).progress.update,
            1);
}

TEST(RankContract, AMetricOfOneRankAloneIsRefused) {
  ta::Accelerator ranks;
  if (ranks.world_size() == 1) return;
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &ranks);
  if (ranks.rank() == 1) {
    trainer.add_metric(
        "ones", [](const ta::TensorDict&, const ta::Batch&) { return ta::Mean(torch::ones({})); });
  }
  const auto text = error_on_all_ranks(
      [&] { trainer.train(tiny_batch(8), {.num_epochs = 1, .global_batch_size = 8}); });
  EXPECT_TRUE(has_in_order(text, {"rank 0 has ", " where rank 1 has metric ones"})) << text;
}

/// Talks as a rank does whose library is version 0.0.1.
class OlderLibrary : public ta::Communicator {
 public:
  explicit OlderLibrary(std::unique_ptr<ta::Communicator> inner) : inner_(std::move(inner)) {}
  int rank() const noexcept override { return inner_->rank(); }
  int size() const noexcept override { return inner_->size(); }
  std::string name() const override { return inner_->name(); }

 protected:
  std::unique_ptr<ta::Pending> do_all_reduce(std::span<torch::Tensor> tensors,
                                             ta::SumOrder order) override {
    return inner_->start_all_reduce(tensors, order);
  }
  void do_reduce_scatter(torch::Tensor& part, const torch::Tensor& whole) override {
    inner_->reduce_scatter(part, whole);
  }
  std::vector<torch::Tensor> do_all_gather(const torch::Tensor& tensor) override {
    const bool is_text = tensor.scalar_type() == torch::kUInt8 && tensor.dim() == 1;
    return inner_->all_gather(is_text ? of_older(tensor) : tensor);
  }
  std::vector<torch::Tensor> do_all_to_all(const std::vector<torch::Tensor>& parts) override {
    return inner_->all_to_all(parts);
  }
  void do_broadcast(torch::Tensor& tensor, int root) override { inner_->broadcast(tensor, root); }
  void do_broadcast(std::string& bytes, int root) override { inner_->broadcast(bytes, root); }
  void do_barrier() override { inner_->barrier(); }
  torch::Tensor do_make_buffer(std::int64_t numel, const torch::Tensor& like) override {
    return inner_->make_buffer(numel, like);
  }
  std::unique_ptr<ta::Communicator> do_duplicate() override { return inner_->duplicate(); }
  void do_close() override { inner_->close(); }
  void do_abort(const std::string& reason, ta::ExitCode exit_code) noexcept override {
    inner_->abort(reason, exit_code);
  }

 private:
  // Another version in a contract's text, and another digest of any: contracts whose texts turn
  // out to be the same are none the worse for it.
  static torch::Tensor of_older(const torch::Tensor& bytes) {
    std::string text(static_cast<const char*>(bytes.const_data_ptr()), bytes.nbytes());
    const std::string field = "library version";
    const std::string version = ta::kVersion;
    const auto at = text.find(field);
    if (at != std::string::npos) text.replace(at + field.size() + 1, version.size(), "0.0.1");
    const bool is_digest = text.size() == 64 && std::all_of(text.begin(), text.end(), [](char c) {
                             return std::isxdigit(static_cast<unsigned char>(c)) != 0;
                           });
    if (is_digest) text[0] = text[0] == '0' ? '1' : '0';
    const auto length = static_cast<std::int64_t>(text.size());
    return torch::from_blob(text.data(), {length}, torch::kUInt8).clone();
  }

  std::unique_ptr<ta::Communicator> inner_;
};

TEST(RankContract, AnotherVersionOfTheLibraryIsRefused) {
  auto world = ta::make_world();
  if (world.size() == 1) return;
  if (world.rank() == 1) world.control = std::make_unique<OlderLibrary>(std::move(world.control));
  ta::Accelerator ranks(std::move(world));
  const auto text = refusal_of(ranks, Side());
  EXPECT_THAT(text, HasSubstr(std::string("library version is ") + ta::kVersion +
                              " on rank 0 and 0.0.1 on rank 1"));
}

}  // namespace
}  // namespace tests::contract_objects_ranks_test
