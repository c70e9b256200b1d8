// SPDX-License-Identifier: Apache-2.0
// One run on four ranks, then on two, then on three, by the checkpoints of one folder.
#include <gmock/gmock.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ranks/shared_folder.h"
#include "support/saving_run.h"
#include "torch_accelerated/distributed/mpi.h"

namespace tests::checkpoint_reshard_ranks_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr std::int64_t kRows = 37;
constexpr std::int64_t kEpochs = 3;

/// The first ranks of all, as a world of their own; collective over all.
class FirstRanks {
 public:
  explicit FirstRanks(int size) {
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_split(MPI_COMM_WORLD, rank < size ? 0 : MPI_UNDEFINED, rank, &ranks_);
    if (rank < size) accelerator_.emplace(ta::make_world(ranks_));
  }
  ~FirstRanks() {
    if (!accelerator_) return;
    accelerator_->close();
    accelerator_.reset();
    MPI_Comm_free(&ranks_);
  }
  FirstRanks(const FirstRanks&) = delete;
  FirstRanks& operator=(const FirstRanks&) = delete;

  /// Null on the ranks that aren't among them.
  ta::Accelerator* accelerator() { return accelerator_ ? &*accelerator_ : nullptr; }

 private:
  MPI_Comm ranks_ = MPI_COMM_NULL;
  std::optional<ta::Accelerator> accelerator_;
};

/// Writes down which rows this rank has trained on: update, epoch and index.
class Seen : public ta::Callback {
 public:
  void on_train_step_end(ta::Trainer&, const ta::TrainStepEnd& event) override {
    const auto& indices = event.batch["index"];
    for (std::int64_t i = 0; i < indices.size(0); ++i) {
      rows->push_back({event.updates, event.epoch, indices[i].item<std::int64_t>()});
    }
  }
  using Row = std::array<std::int64_t, 3>;
  std::shared_ptr<std::vector<Row>> rows = std::make_shared<std::vector<Row>>();
};

/// The run, in 5 updates of 8 rows an epoch on any number of ranks.
struct Resharded {
  explicit Resharded(ta::Accelerator& ranks)
      : net(tiny_net(7, torch::kFloat64)),
        optimizer(sgd(net)),
        trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &ranks) {
    seen = trainer.callbacks().add(Seen()).rows;
    options = {.num_epochs = kEpochs, .global_batch_size = 8, .seed = 5};
  }
  ta::RunResult train() {
    auto rows = tiny_batch(kRows, 3, torch::kFloat64);
    rows.set("index", torch::arange(kRows));
    return trainer.train(std::move(rows), options);
  }
  // Saves there, and trains a little further.
  void cut_at(std::int64_t update) {
    trainer.callbacks().add(AtUpdate(update, [](ta::Trainer& running) {
      running.save_checkpoint();
      running.request_stop("the machines are wanted");
    }));
  }

  torch::nn::Sequential net;
  torch::optim::SGD optimizer;
  ta::Trainer trainer;
  ta::TrainOptions options;
  std::shared_ptr<std::vector<Seen::Row>> seen;
};

/// What this process has trained on, and what it has written into the log while it did.
class Phases {
 public:
  Phases(ta::Accelerator& all, const SharedFolder& folder) : all_(all), folder_(folder) {}

  // Goes on with the newest checkpoint on `size` ranks, to the end or until after `update`.
  void run(int size, std::optional<std::int64_t> update) {
    FirstRanks first(size);
    if (first.accelerator() != nullptr) train(*first.accelerator(), update);
    all_.barrier();
  }

  // How often each row of each epoch came, over all ranks and phases. Collective.
  std::map<std::pair<std::int64_t, std::int64_t>, int> counts() {
    auto mine = torch::empty({static_cast<std::int64_t>(rows_.size()), 3}, torch::kInt64);
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      for (std::size_t j = 0; j < 3; ++j) {
        mine[static_cast<std::int64_t>(i)][static_cast<std::int64_t>(j)] = rows_[i][j];
      }
    }
    const auto all = all_.gather(mine);
    std::map<std::pair<std::int64_t, std::int64_t>, int> counts;
    for (std::int64_t i = 0; i < all.size(0); ++i) {
      ++counts[{all[i][1].item<std::int64_t>(), all[i][2].item<std::int64_t>()}];
    }
    return counts;
  }

  std::string log;
  torch::nn::Sequential net = nullptr;  // of the last phase, on its ranks

 private:
  void train(ta::Accelerator& ranks, std::optional<std::int64_t> update) {
    Resharded run(ranks);
    run.options.checkpoints.directory = folder_.checkpoints();
    run.options.resume_from = ta::latest_checkpoint(folder_.checkpoints());
    if (update) run.cut_at(*update);
    testing::internal::CaptureStderr();
    const auto result = run.train();
    log = testing::internal::GetCapturedStderr();
    EXPECT_EQ(result.was_stopped(), update.has_value());
    for (const auto& row : *run.seen) {
      if (!update || row[0] <= *update) rows_.push_back(row);
    }
    net = run.net;
  }

  ta::Accelerator& all_;
  const SharedFolder& folder_;
  std::vector<Seen::Row> rows_;
};

TEST(ReshardOnRanks, FromFourToTwoToThreeTrainsOnEverySampleOnceAnEpochAndGivesTheSameWeights) {
  ta::Accelerator ranks;
  if (ranks.world_size() != 4) return;
  const SharedFolder folder(ranks);
  Phases phases(ranks, folder);
  phases.run(4, 3);  // of 15 updates, in the first epoch
  phases.run(2, 8);  // in the second
  if (ranks.is_main_process()) {
    EXPECT_THAT(phases.log, AllOf(HasSubstr("the checkpoint is of 4 ranks, here are 2"),
                                  HasSubstr("8 rows an update as before"),
                                  HasSubstr("random numbers from other streams")));
  }
  phases.run(3, std::nullopt);
  if (ranks.is_main_process()) {
    EXPECT_THAT(phases.log, HasSubstr("the checkpoint is of 2 ranks, here are 3"));
  }

  const auto counts = phases.counts();
  EXPECT_EQ(counts.size(), static_cast<std::size_t>(kRows * kEpochs));
  for (const auto& [row, count] : counts) {
    EXPECT_EQ(count, 1) << "epoch " << row.first << ", row " << row.second;
  }
  if (ranks.rank() >= 3) return;
  ta::Accelerator alone(ta::make_single_world());
  Resharded whole(alone);
  whole.train();
  EXPECT_LT(relative_difference(*phases.net, *whole.net), 1e-11);
}

}  // namespace
}  // namespace tests::checkpoint_reshard_ranks_test
