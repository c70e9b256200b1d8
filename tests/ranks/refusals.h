// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gmock/gmock.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "support/tiny.h"

namespace tests {

inline std::unique_ptr<torch::optim::Optimizer> usual_optimizer(const torch::nn::Module& net) {
  return std::make_unique<torch::optim::SGD>(net.parameters(),
                                             torch::optim::SGDOptions(0.1).momentum(0.9));
}

/// What one rank trains, and how.
struct Side {
  torch::nn::Sequential net = tiny_net();
  ta::TrainOptions options = {.num_epochs = 1, .global_batch_size = 8};
  std::int64_t rows = 16;
  std::function<std::unique_ptr<torch::optim::Optimizer>(const torch::nn::Module&)> optimizer =
      usual_optimizer;
  std::function<ta::CallbackList()> callbacks = [] { return ta::CallbackList(); };
};

using Change = std::function<void(Side&)>;

/// What one rank has otherwise than all others, and how that is told.
struct Variant {
  std::string field;
  std::string usual;  ///< of its value, on the others; empty: not looked for
  std::string odd;    ///< the same, on the rank that differs
  Change on_odd;
  Change on_all = {};
};

/// What `body` throws; fails where the ranks don't throw it together.
template <class Body>
std::string error_on_all_ranks(Body&& body) {
  try {
    body();
  } catch (const ta::Error& error) {
    EXPECT_TRUE(error.is_on_all_ranks()) << error.what();
    return error.what();
  }
  return "";
}

/// Whether `parts` stand in `text` one after the other.
inline bool has_in_order(const std::string& text, const std::vector<std::string>& parts) {
  std::size_t at = 0;
  for (const auto& part : parts) {
    const auto found = text.find(part, at);
    if (found == std::string::npos) return false;
    at = found + part.size();
  }
  return true;
}

/// The error of a run that is refused before its first update; empty where it isn't.
inline std::string refusal_of(ta::Accelerator& ranks, const Side& side) {
  const auto optimizer = side.optimizer(*side.net);
  ta::Trainer trainer(side.net, torch::nn::MSELoss(), *optimizer, side.callbacks(), &ranks);
  const auto before = ranks.gradient_reductions();
  auto text = error_on_all_ranks([&] { trainer.train(tiny_batch(side.rows), side.options); });
  EXPECT_EQ(ranks.gradient_reductions(), before);
  EXPECT_EQ(trainer.progress().update, 0);
  return text;
}

/// The same where rank `odd` differs from the others.
inline std::string refusal_of(ta::Accelerator& ranks, int odd, const Change& on_odd,
                              const Change& on_all = {}) {
  Side side;
  if (on_all) on_all(side);
  if (ranks.rank() == odd) on_odd(side);
  return refusal_of(ranks, side);
}

/// Each difference is told on every rank: its field, and what rank 0 has and the first that has
/// something else. The rank that differs is the first, then the last.
inline void expect_refused(ta::Accelerator& ranks, const std::vector<Variant>& variants) {
  if (ranks.world_size() == 1) return;
  for (const int odd : {0, ranks.world_size() - 1}) {
    for (const auto& variant : variants) {
      const auto text = refusal_of(ranks, odd, variant.on_odd, variant.on_all);
      const auto other = "rank " + std::to_string(odd == 0 ? 1 : odd);
      const auto& first = odd == 0 ? variant.odd : variant.usual;
      const auto& second = odd == 0 ? variant.usual : variant.odd;
      EXPECT_THAT(text, testing::HasSubstr(variant.field));
      EXPECT_TRUE(has_in_order(text, {" is ", first, " on rank 0 and ", second, " on " + other}) ||
                  has_in_order(text, {"rank 0 has ", first, " where " + other + " has ", second}))
          << variant.field << ", " << other << ": " << text;
      for (const auto& heard : ranks.gather_objects(text)) EXPECT_EQ(heard, text);
    }
  }
}

}  // namespace tests
