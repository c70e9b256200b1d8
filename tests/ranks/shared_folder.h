// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "support/temp_dir.h"
#include "torch_accelerated/accelerator/accelerator.h"

namespace tests {

/// A folder that all ranks see, gone when all are done with it. Collective at both ends.
class SharedFolder {
 public:
  explicit SharedFolder(torch_accelerated::Accelerator& ranks) : ranks_(ranks) {
    if (ranks.is_main_process()) own_ = std::make_unique<torch_accelerated::testing::TempDir>();
    path_ = ranks.gather_objects(own_ ? own_->path().string() : std::string()).front();
  }
  ~SharedFolder() { ranks_.barrier(); }
  SharedFolder(const SharedFolder&) = delete;
  SharedFolder& operator=(const SharedFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path checkpoints() const { return path_ / "checkpoints"; }

 private:
  torch_accelerated::Accelerator& ranks_;
  std::unique_ptr<torch_accelerated::testing::TempDir> own_;
  std::filesystem::path path_;
};

}  // namespace tests
