// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "support/temp_dir.h"
#include "support/tiny.h"

namespace tests {

/// A run of 2 epochs of 4 updates in one process, of fewer on several ranks.
struct Saving {
  explicit Saving(const std::filesystem::path& folder, torch::nn::Sequential given = tiny_net(),
                  ta::Accelerator* ranks = nullptr)
      : net(std::move(given)),
        optimizer(sgd(net)),
        trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), ranks) {
    options = {.num_epochs = 2,
               .eval_dataset = tiny_batch(4, 2),
               .per_device_batch_size = 2,
               .checkpoints = {.directory = folder / "checkpoints", .keep_newest = {}}};
  }

  ta::RunResult train(std::optional<std::filesystem::path> from = {}) {
    options.resume_from = std::move(from);
    return trainer.train(tiny_batch(8), options);
  }

  torch::nn::Sequential net;
  torch::optim::SGD optimizer;
  ta::Trainer trainer;
  ta::TrainOptions options;
};

/// The names of the committed checkpoints in the directory of a run, sorted.
inline std::vector<std::string> committed(const std::filesystem::path& checkpoints) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(checkpoints)) {
    if (std::filesystem::exists(entry.path() / "manifest.json"))
      names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

inline std::vector<std::string> committed(const torch_accelerated::testing::TempDir& folder) {
  return committed(folder.path() / "checkpoints");
}

inline std::filesystem::path latest(const torch_accelerated::testing::TempDir& folder) {
  const auto found = ta::latest_checkpoint(folder.path() / "checkpoints");
  return found.value_or(std::filesystem::path());
}

/// What `call` at the end of an update does.
class AtUpdate : public ta::Callback, public ta::OnCheckpoint {
 public:
  AtUpdate(std::int64_t update, std::function<void(ta::Trainer&)> call)
      : update_(update), call_(std::move(call)) {}
  void on_train_step_end(ta::Trainer& trainer, const ta::TrainStepEnd& event) override {
    if (event.updates == update_) call_(trainer);
  }
  void on_checkpoint_committed(ta::Trainer&, const ta::CheckpointCommitted& event) override {
    told->push_back(event.update);
  }
  std::shared_ptr<std::vector<std::int64_t>> told = std::make_shared<std::vector<std::int64_t>>();

 private:
  std::int64_t update_;
  std::function<void(ta::Trainer&)> call_;
};

}  // namespace tests
