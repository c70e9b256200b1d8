// SPDX-License-Identifier: Apache-2.0
// Modules and options that must be the same on all ranks, and are refused on all of them before
// the first update. What optimizers, schedulers and callbacks have stands in
// contract_objects_ranks_test.cpp.
#include <filesystem>

#include "ranks/refusals.h"
#include "torch_accelerated/accelerator/sync_batch_norm.h"

namespace tests::contract_ranks_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using torch::nn::Linear;
using torch::nn::Sequential;
using torch::nn::Tanh;

Sequential with_buffer(torch::Dtype dtype) {
  auto net = tiny_net();
  net->register_buffer("step", torch::zeros({}, dtype));
  return net;
}

// As tiny_net(), with the first weight column by column in memory.
Sequential transposed_net() {
  auto net = tiny_net();
  auto weight = net->parameters()[0];
  weight.set_data(weight.detach().t().contiguous().t());
  return net;
}

Sequential normed_net() {
  return Sequential(Linear(4, 5), torch::nn::BatchNorm1d(5), Linear(5, 3));
}

std::vector<Variant> other_parameters() {
  const auto net = [](auto make) { return [make](Side& side) { side.net = make(); }; };
  return {
      {"parameter '0.weight'", "[5, 4]", "[6, 4]",
       net([] { return Sequential(Linear(4, 6), Tanh(), Linear(6, 3)); })},
      {"parameter '0.weight'", "[5, 4]", "[3, 4]", net([] { return Sequential(Linear(4, 3)); })},
      {"parameter '0.weight'", "float [5, 4]", "double [5, 4]",
       net([] { return tiny_net(7, torch::kFloat64); })},
      {"parameter '0.weight'", "strides [4, 1]", "strides [1, 5]", net(transposed_net)},
      {"parameter '0.weight'", ", requires_grad", ", without requires_grad", net([] {
         auto frozen = tiny_net();
         frozen->parameters()[0].requires_grad_(false);
         return frozen;
       })},
      {"parameter", "'0.weight'", "'1.weight'",
       net([] { return Sequential(Tanh(), Linear(4, 5), Linear(5, 3)); })},
      {"parameter", "'2.weight'", "'1.weight'", net(normed_net)},
      {"parameter '2.bias'", "'2.bias'", "", net([] {
         const torch::nn::LinearOptions without_bias = torch::nn::LinearOptions(5, 3).bias(false);
         return Sequential(Linear(4, 5), Tanh(), Linear(without_bias));
       })},
      {"parameter '3.weight'", "", "'3.weight'",
       net([] { return Sequential(Linear(4, 5), Tanh(), Linear(5, 3), Linear(3, 3)); })},
      {"buffer 'step'", "", "'step'", net([] { return with_buffer(torch::kFloat32); })},
      {"buffer 'step'", "float", "double", net([] { return with_buffer(torch::kFloat64); }),
       net([] { return with_buffer(torch::kFloat32); })},
      {"SyncBatchNorm layers", "0", "1", [](Side& side) { ta::convert_sync_batch_norm(*side.net); },
       net(normed_net)},
  };
}

TEST(RankContract, OtherParametersOfOneRankAreRefusedOnAllBeforeTheFirstUpdate) {
  ta::Accelerator ranks;
  expect_refused(ranks, other_parameters());
}

Change options(std::function<void(ta::TrainOptions&)> change) {
  return [change = std::move(change)](Side& side) { change(side.options); };
}

Change evaluates() {
  return options([](auto& o) { o.eval_dataset = tiny_batch(4); });
}

std::vector<Variant> other_rows() {
  const auto per_device = [](std::int64_t rows) {
    return options([rows](auto& o) {
      o.global_batch_size.reset();
      o.per_device_batch_size = rows;
    });
  };
  return {
      {"training rows", "16", "24", [](Side& side) { side.rows = 24; }},
      {"training dataset", "16 rows", "24 rows", [](Side& side) { side.rows = 24; },
       options([](auto& o) { o.limit_train_batches = 1; })},
      {"training rows", "16", "8", options([](auto& o) { o.limit_train_batches = 1; })},
      {"global batch size", "8", "7", options([](auto& o) { o.global_batch_size = 7; })},
      {"per-device batch size", "4", "3", per_device(3), per_device(4)},
      {"gradient accumulation steps", "1", "2",
       options([](auto& o) { o.gradient_accumulation_steps = 2; }),
       options([](auto& o) { o.global_batch_size = 2; })},
      {"accumulation schedule", "-", "2 from epoch 3",
       options([](auto& o) { o.accumulation_schedule = {{3, 2}}; }), per_device(4)},
      {"shuffle", "yes", "no", options([](auto& o) { o.train_loader.shuffle = false; })},
      {"drop", "no", "yes", options([](auto& o) { o.train_loader.drop_last = true; })},
      {"evaluation rows", "-", "4", evaluates()},
      {"evaluation rows", "4", "5", options([](auto& o) { o.eval_dataset = tiny_batch(5); }),
       evaluates()},
      {"evaluation batch size", "2", "3",
       options([](auto& o) { o.eval_per_device_batch_size = 3; }), options([](auto& o) {
         o.eval_dataset = tiny_batch(4);
         o.eval_per_device_batch_size = 2;
       })},
      {"evaluation batch limit", "-", "1", options([](auto& o) { o.limit_eval_batches = 1; }),
       evaluates()},
      {"sanity evaluation batches", "0", "1", options([](auto& o) { o.sanity_eval_batches = 1; }),
       evaluates()},
  };
}

std::filesystem::path never_made() {
  return std::filesystem::temp_directory_path() / "torch-accelerated-never-made";
}

std::vector<Variant> other_options() {
  return {
      {"epochs", "1", "2", options([](auto& o) { o.num_epochs = 2; })},
      {"max updates", "-", "1", options([](auto& o) { o.max_updates = 1; })},
      {"clip gradient norm", "-", "1", options([](auto& o) { o.clip_gradient_norm = 1.0; })},
      {"clip gradient value", "-", "1", options([](auto& o) { o.clip_gradient_value = 1.0; })},
      {"track gradient norm", "no", "yes", options([](auto& o) { o.track_gradient_norm = true; })},
      {"non-finite loss", "throw", "skip",
       options([](auto& o) { o.non_finite = ta::NonFinite::kSkip; })},
      {"seed", "0", "5", options([](auto& o) { o.seed = 5; })},
      {"scheduler", "none", "cosine", options([](auto& o) { o.scheduler = ta::cosine({}); })},
      {"checkpoints", "none", "kept",
       options([](auto& o) { o.checkpoints.directory = never_made(); })},
  };
}

TEST(RankContract, OtherOptionsOfOneRankAreRefusedOnAllBeforeTheFirstUpdate) {
  ta::Accelerator ranks;
  expect_refused(ranks, other_rows());
  expect_refused(ranks, other_options());
  EXPECT_FALSE(std::filesystem::exists(never_made()));
}

TEST(RankContract, DeterministicShardsOfOneRankAreRefusedOnAll) {
  ta::Accelerator ranks;
  const int size = ranks.world_size();
  if ((size & (size - 1)) != 0) return;  // refused for that, below
  expect_refused(ranks, {{"deterministic shards", "-", std::to_string(size),
                          options([size](auto& o) { o.deterministic_shards = size; })}});
}

// What can't be done at all is no difference: it is told with the rank that was asked for it.
TEST(RankContract, WhatOneRankIsRefusedIsToldOnAllWithItsRank) {
  ta::Accelerator ranks;
  const int size = ranks.world_size();
  if (size == 1) return;
  std::vector<std::pair<Change, std::string>> refused = {
      {options([](auto& o) { o.num_epochs = 0; }), "num_epochs must be >= 1, got 0"},
      {[](Side& side) { side.rows = 0; }, "the training dataset is empty"},
      {options([](auto& o) { o.eval_dataset = tiny_batch(0); }), "eval_dataset is empty"},
  };
  if (size == 3) {
    refused.emplace_back(options([](auto& o) { o.deterministic_shards = 4; }),
                         "can't be shared out among 3 ranks");
  }
  for (const int odd : {0, size - 1}) {
    const auto rank = "(on rank " + std::to_string(odd) + ")";
    for (const auto& [change, said] : refused) {
      EXPECT_THAT(refusal_of(ranks, odd, change), AllOf(HasSubstr(said), HasSubstr(rank)));
    }
  }
}

TEST(RankContract, OtherOptionsOfTheAcceleratorAreRefused) {
  const int rank = ta::Accelerator().rank();
  if (ta::Accelerator().world_size() == 1) return;
  const std::vector<std::pair<ta::AcceleratorOptions, std::string>> odd = {
      {{.bucket_bytes = 128}, "bucket_bytes is 26214400 on rank 0 and 128 on rank 1"},
      {{.overlap = ta::Overlap::kOff}, "overlap is 0 on rank 0 and 2 on rank 1"},
      {{.unused_parameters = ta::UnusedParameters::kError},
       "unused_parameters is 0 on rank 0 and 1 on rank 1"},
      {{.mixed_precision = ta::MixedPrecision::kBf16},
       "mixed_precision is no on rank 0 and bf16 on rank 1"},
      {{.share_devices = true}, "share_devices is no on rank 0 and yes on rank 1"}};
  for (const auto& [asked, said] : odd) {
    const auto text =
        error_on_all_ranks([&] { ta::Accelerator(rank == 1 ? asked : ta::AcceleratorOptions{}); });
    EXPECT_THAT(text, HasSubstr(said));
  }
}

TEST(RankContract, EvaluationsThatDifferAreRefused) {
  ta::Accelerator ranks;
  if (ranks.world_size() == 1) return;
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &ranks);
  const bool odd = ranks.rank() == 1;
  EXPECT_THAT(error_on_all_ranks([&] { trainer.evaluate(tiny_batch(odd ? 9 : 8)); }),
              HasSubstr("evaluation dataset is 8 rows on rank 0 and 9 rows on rank 1"));
  EXPECT_THAT(
      error_on_all_ranks(
          [&] { trainer.evaluate(tiny_batch(8), {.per_device_batch_size = odd ? 2 : 4}); }),
      AllOf(HasSubstr("evaluation batch size"), HasSubstr("on rank 0"), HasSubstr("on rank 1")));
}

TEST(RankContract, AnErrorOfOneRankBeforeTheRunReachesAll) {
  ta::Accelerator ranks;
  if (ranks.world_size() == 1) return;
  const auto text = error_on_all_ranks([&] {
    ranks.together("reading", [&] {
      if (ranks.rank() == 1) throw ta::DataError("no such file");
    });
  });
  if (ranks.rank() != 1) {
    EXPECT_THAT(text, AllOf(HasSubstr("no such file"), HasSubstr("rank 1")));
  }
}

}  // namespace
}  // namespace tests::contract_ranks_test
