// SPDX-License-Identifier: Apache-2.0
// What must be the same on all ranks, and is refused on all of them before the first update.
#include <gmock/gmock.h>

#include <functional>

#include "support/tiny.h"

namespace tests {
namespace {

using testing::AllOf;
using testing::HasSubstr;

struct Variant {
  const char* what;
  torch::nn::Sequential net;
  ta::TrainOptions options = {.num_epochs = 1, .global_batch_size = 8};
  std::int64_t rows = 16;
  std::string said;  // in the error of every rank
};

torch::nn::Sequential frozen_net() {
  auto net = tiny_net();
  net->parameters()[0].requires_grad_(false);
  return net;
}

torch::nn::Sequential net_of(torch::Dtype dtype) { return tiny_net(7, dtype); }

torch::nn::Sequential with_buffer(torch::Dtype dtype) {
  auto net = tiny_net();
  net->register_buffer("step", torch::zeros({}, dtype));
  return net;
}

std::vector<Variant> variants() {
  using torch::nn::Linear;
  using torch::nn::Sequential;
  using torch::nn::Tanh;
  const ta::TrainOptions usual{.num_epochs = 1, .global_batch_size = 8};
  const auto options = [&](auto change) {
    auto changed = usual;
    change(changed);
    return changed;
  };
  return {
      {"shape", Sequential(Linear(4, 6), Tanh(), Linear(6, 3)), usual, 16, "parameter '0.weight'"},
      {"layers", Sequential(Linear(4, 3)), usual, 16, "parameter"},
      {"order", Sequential(Tanh(), Linear(4, 5), Linear(5, 3)), usual, 16, "0.weight"},
      {"dtype", net_of(torch::kFloat64), usual, 16, "parameter '0.weight'"},
      {"requires_grad", frozen_net(), usual, 16, "requires_grad"},
      {"buffers", Sequential(Linear(4, 5), torch::nn::BatchNorm1d(5), Linear(5, 3)), usual, 16, ""},
      {"length", tiny_net(), usual, 24, "training rows"},
      {"batch", tiny_net(), options([](auto& o) { o.global_batch_size = 4; }), 16, "batch size"},
      {"accumulation", tiny_net(), options([](auto& o) { o.gradient_accumulation_steps = 2; }), 16,
       ""},
      {"clip", tiny_net(), options([](auto& o) { o.clip_gradient_norm = 1.0; }), 16,
       "clip gradient norm"},
      {"seed", tiny_net(), options([](auto& o) { o.seed = 5; }), 16, "seed"},
      {"bias", Sequential(Linear(4, 5), Tanh(), Linear(torch::nn::LinearOptions(5, 3).bias(false))),
       usual, 16, "2.bias"},
      {"one layer more", Sequential(Linear(4, 5), Tanh(), Linear(5, 3), Linear(3, 3)), usual, 16,
       "3.weight"},
      {"buffer dtype", with_buffer(torch::kInt64), usual, 16, "buffer"},
      {"max updates", tiny_net(), options([](auto& o) { o.max_updates = 1; }), 16, "max updates"},
      {"clip value", tiny_net(), options([](auto& o) { o.clip_gradient_value = 1.0; }), 16,
       "clip gradient value"},
      {"non-finite", tiny_net(), options([](auto& o) { o.non_finite = ta::NonFinite::kSkip; }), 16,
       "non-finite loss"},
      {"schedule", tiny_net(), options([](auto& o) { o.scheduler = ta::cosine({}); }), 16,
       "scheduler"},
      {"evaluation", tiny_net(), options([](auto& o) { o.eval_dataset = tiny_batch(4); }), 16,
       "evaluation rows"},
      {"limit", tiny_net(), options([](auto& o) { o.limit_train_batches = 1; }), 16,
       "training rows"},
      {"drop last", tiny_net(), options([](auto& o) { o.train_loader.drop_last = true; }), 20,
       "training dataset"},
      {"shuffle", tiny_net(), options([](auto& o) { o.train_loader.shuffle = false; }), 16,
       "training shuffle"},
      {"shards", tiny_net(), options([](auto& o) { o.deterministic_shards = 4; }), 16, ""},
      {"epochs", tiny_net(), options([](auto& o) { o.num_epochs = 2; }), 16, "epochs"},
      {"refused options", tiny_net(), options([](auto& o) { o.num_epochs = 0; }), 16,
       "num_epochs must be >= 1, got 0"},
  };
}

std::string error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const ta::Error& error) {
    EXPECT_TRUE(error.is_on_all_ranks()) << error.what();
    return error.what();
  }
  return "";
}

TEST(RankContract, ADifferenceOfOneRankIsRefusedOnAllBeforeTheFirstUpdate) {
  ta::Accelerator ranks;
  if (ranks.world_size() == 1) return;
  for (int odd = 0; odd < ranks.world_size(); odd += ranks.world_size() - 1) {
    for (auto& variant : variants()) {
      const bool differs = ranks.rank() == odd;
      auto net = differs ? variant.net : tiny_net();
      auto optimizer = sgd(net);
      bool stepped = false;
      ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &ranks);
      const auto before = ranks.gradient_reductions();
      const auto text = error_of([&] {
        trainer.train(
            tiny_batch(differs ? variant.rows : 16),
            differs ? variant.options : ta::TrainOptions{.num_epochs = 1, .global_batch_size = 8});
        stepped = true;
      });
      EXPECT_FALSE(stepped) << variant.what;
      EXPECT_EQ(ranks.gradient_reductions(), before) << variant.what;
      EXPECT_THAT(text, HasSubstr(variant.said)) << variant.what;
      EXPECT_THAT(text, HasSubstr("rank")) << variant.what;
      const auto texts = ranks.gather_objects(text);
      for (const auto& other : texts) EXPECT_NE(other, "") << variant.what;
    }
  }
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
      error_of([&] { trainer.train(rows, {.num_epochs = 1, .global_batch_size = 8}); });
  EXPECT_THAT(text, AllOf(HasSubstr("optimizer 'optimizer' parameter is '0.weight' on rank 0"),
                          HasSubstr("'1.weight' on rank 1")));
}

TEST(RankContract, OtherOptionsOfTheAcceleratorAreRefused) {
  const int rank = ta::Accelerator().rank();
  if (ta::Accelerator().world_size() == 1) return;
  const std::vector<std::pair<ta::AcceleratorOptions, std::string>> odd = {
      {{.bucket_bytes = 128}, "bucket_bytes is"},
      {{.overlap = ta::Overlap::kOff}, "overlap is"},
      {{.unused_parameters = ta::UnusedParameters::kError}, "unused_parameters is"},
      {{.mixed_precision = ta::MixedPrecision::kBf16}, "mixed_precision is no on rank 0"}};
  for (const auto& [options, said] : odd) {
    const auto text =
        error_of([&] { ta::Accelerator(rank == 1 ? options : ta::AcceleratorOptions{}); });
    EXPECT_THAT(text, AllOf(HasSubstr(said), HasSubstr("on rank 1")));
  }
}

/// Something that all ranks must have, on one rank only.
class Voting : public ta::Callback {
 public:
  bool concerns_all_ranks() const override { return true; }
  std::string name() const override { return "Voting"; }
};

TEST(RankContract, ACallbackThatConcernsAllRanksIsOnAll) {
  ta::Accelerator ranks;
  if (ranks.world_size() == 1) return;
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &ranks);
  if (ranks.rank() == 0) trainer.callbacks().add(Voting());
  const auto text =
      error_of([&] { trainer.train(tiny_batch(8), {.num_epochs = 1, .global_batch_size = 8}); });
  EXPECT_THAT(text, HasSubstr("rank 0 has callback Voting where rank 1"));
}

TEST(RankContract, EvaluationsThatDifferAreRefused) {
  ta::Accelerator ranks;
  if (ranks.world_size() == 1) return;
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &ranks);
  const bool odd = ranks.rank() == 1;
  EXPECT_THAT(error_of([&] { trainer.evaluate(tiny_batch(odd ? 9 : 8)); }),
              HasSubstr("evaluation dataset is 8 rows on rank 0 and 9 rows on rank 1"));
  EXPECT_THAT(
      error_of([&] { trainer.evaluate(tiny_batch(8), {.per_device_batch_size = odd ? 2 : 4}); }),
      HasSubstr("evaluation batch size"));
}

TEST(RankContract, AnErrorOfOneRankBeforeTheRunReachesAll) {
  ta::Accelerator ranks;
  if (ranks.world_size() == 1) return;
  const auto text = error_of([&] {
    ranks.together("reading", [&] {
      if (ranks.rank() == 1) throw ta::DataError("no such file");
    });
  });
  if (ranks.rank() != 1) {
    EXPECT_THAT(text, AllOf(HasSubstr("no such file"), HasSubstr("rank 1")));
  }
}

// --- SyncBatchNorm
// ---------------------------------------------------------------------------------

}  // namespace
}  // namespace tests
