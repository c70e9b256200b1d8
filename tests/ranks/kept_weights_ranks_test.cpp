// SPDX-License-Identifier: Apache-2.0
// Weights that callbacks keep beside the model's, on several ranks.
#include <gmock/gmock.h>

#include <cmath>
#include <filesystem>

#include "core/named_tensors.h"
#include "ranks/same_bits.h"
#include "ranks/shared_folder.h"
#include "support/tiny.h"

namespace tests::kept_weights_ranks_test {
namespace {

ta::Batch rows(std::int64_t count, std::uint64_t seed) {
  return tiny_batch(count, seed, torch::kFloat64);
}

// 1e-12: what fp64 sums in another order may differ by.
void expect_near(const ta::TensorDict& tensors, const ta::TensorDict& expected) {
  ASSERT_EQ(tensors.size(), expected.size());
  for (const auto& [name, tensor] : expected) {
    EXPECT_TRUE(torch::allclose(tensors[name], tensor, 1e-12, 1e-12)) << name;
  }
}

bool are_equal(const ta::TensorDict& tensors, const ta::TensorDict& others) {
  bool equal = tensors.size() == others.size();
  for (const auto& [name, tensor] : tensors) equal = equal && torch::equal(tensor, others[name]);
  return equal;
}

// The metric is best in epoch 2 of 4, so the average of that epoch becomes the model.
torch::nn::Sequential averaged(ta::Accelerator& ranks) {
  auto net = tiny_net(7 + static_cast<std::uint64_t>(ranks.rank()), torch::kFloat64);
  auto optimizer = sgd(net);
  const ta::ModelEmaOptions options{
      .decay = 0.9, .keep_best = "ema_eval_distance", .replace_at_end = true};
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(ta::ModelEma(options)),
                      &ranks);
  trainer.add_metric("distance", [&](const ta::TensorDict&, const ta::Batch&) {
    const auto epoch = static_cast<double>(trainer.progress().epoch);
    return ta::Mean(torch::full({}, std::abs(epoch - 2), torch::kFloat64));
  });
  trainer.train(rows(20, 1),
                {.num_epochs = 4, .eval_dataset = rows(31, 2), .global_batch_size = 8});
  const auto& ema = *trainer.callbacks().find<ta::ModelEma>();
  EXPECT_EQ(ema.best()->epoch, 2);
  const auto ended = ta::named_tensors(*net);
  EXPECT_TRUE(are_equal(ended, ema.best_averages()));
  EXPECT_FALSE(are_equal(ended, ema.averages()));  // of the last epoch
  return net;
}

TEST(KeptWeights, TheBestAverageTakesTheModelsPlaceOnAllRanks) {
  ta::Accelerator ranks;
  ta::Accelerator alone(ta::make_single_world());
  const auto together = averaged(ranks);
  expect_same_bits_everywhere(ranks, together);
  expect_near(ta::named_tensors(*together), ta::named_tensors(*averaged(alone)));
}

/// A run of 4 updates an epoch, whose rates fall in the last three.
struct Decaying {
  torch::nn::Sequential net = tiny_net(7, torch::kFloat64);
  torch::optim::SGD optimizer = sgd(net);
  ta::WsdOptions schedule = {.decay_updates = 3};

  ta::RunResult train(ta::Accelerator& ranks, const std::filesystem::path& folder,
                      std::int64_t epochs, std::optional<std::filesystem::path> from = {}) {
    ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer,
                        ta::CallbackList(ta::WSDCheckpoint(schedule)), &ranks);
    return trainer.train(rows(32, 1), {.num_epochs = epochs,
                                       .global_batch_size = 8,
                                       .scheduler = ta::wsd(schedule),
                                       .checkpoints = {.directory = folder},
                                       .resume_from = std::move(from),
                                       .resume_with_changes = true});
  }
};

TEST(KeptWeights, BothEndsOfADecayAreThoseOfOneProcess) {
  ta::Accelerator ranks;
  ta::Accelerator alone(ta::make_single_world());
  const SharedFolder folder(ranks);
  const torch_accelerated::testing::TempDir own;
  Decaying together;
  together.train(ranks, folder.checkpoints(), 2);
  expect_same_bits_everywhere(ranks, together.net);
  Decaying single;
  single.train(alone, own.path() / "checkpoints", 2);
  EXPECT_LE(relative_difference(*together.net, *single.net), 1e-12);
  // Its end, as a file of weights.
  auto loaded = tiny_net(99, torch::kFloat64);
  ta::load_weights(*loaded, folder.checkpoints() / "decayed-update-000000008.safetensors");
  EXPECT_TRUE(equal_bits(*loaded, *together.net));
  // Its beginning, as a checkpoint: from there a longer run goes on as if there had been no decay.
  const auto beginning = folder.checkpoints() / "update-000000005";
  ASSERT_TRUE(std::filesystem::exists(beginning / "manifest.json"));
  for (int rank = 0; rank < ranks.world_size(); ++rank) {
    const auto file = "rank-0000" + std::to_string(rank) + ".safetensors";
    EXPECT_TRUE(std::filesystem::exists(beginning / file)) << file;
  }
  Decaying again;
  again.train(ranks, folder.checkpoints(), 4, beginning);
  const SharedFolder other_folder(ranks);
  Decaying longer;
  longer.train(ranks, other_folder.checkpoints(), 4);
  EXPECT_TRUE(equal_bits(*again.net, *longer.net));
}

}  // namespace
}  // namespace tests::kept_weights_ranks_test
