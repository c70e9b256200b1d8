// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>

namespace torch_accelerated {

class Trainer;

/// A checkpoint of the run is on the disk, whole.
struct CheckpointCommitted {
  const std::filesystem::path& folder;
  std::int64_t update;  ///< after which it was taken; training may have gone on since
};

/// The event of checkpoints, beside the fifteen: a callback that wants it inherits it. On all
/// ranks at the same update.
class OnCheckpoint {
 public:
  virtual ~OnCheckpoint() = default;
  virtual void on_checkpoint_committed(Trainer& trainer, const CheckpointCommitted& event) = 0;
};

}  // namespace torch_accelerated
