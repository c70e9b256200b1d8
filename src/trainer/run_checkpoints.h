// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/background_task.h"
#include "checkpoint/checkpoint_files.h"
#include "checkpoint/checkpoint_folder.h"
#include "checkpoint/host_copies.h"
#include "torch_accelerated/accelerator/accelerator.h"
#include "torch_accelerated/trainer/options.h"

namespace torch_accelerated {

/// A checkpoint that survives whatever comes.
struct Committed {
  std::filesystem::path folder;
  std::int64_t update = 0;
};

/// Writes the checkpoints of a run, beside the training where it may.
///
/// The main process writes what all ranks have alike, each rank what it alone has. That a rank is
/// still writing rides behind the gradients; when none is, the main process commits. There is one
/// checkpoint in flight at most. The constructor, save, advance and finish are collective. The
/// destructor waits for what is being written; what isn't committed by then the next job cleans.
class RunCheckpoints {
 public:
  /// Locks the folder and cleans it of what earlier jobs left unfinished.
  /// @throws FileError   it can't be written to, or a rank doesn't see it.
  /// @throws StateError  another job writes there.
  RunCheckpoints(const CheckpointOptions& options, Accelerator& accelerator);

  /// What a checkpoint is told beside its contents.
  struct Label {
    std::int64_t update = 0;
    bool in_epoch = false;  ///< whether the epoch's end is still to come
    std::optional<double> metric = {};
    bool is_kept = false;  ///< whether it stays whatever keep_newest says
  };

  /// Begins one; when it returns, the run may go on changing its tensors.
  /// @param contents  empty but on the main process.
  void save(const Label& label, const CheckpointContents& contents, const TensorDict& of_rank);

  /// Goes on with what is in flight, once after each exchange of triggers.
  /// @throws FileError  it couldn't be written, under SaveFailure::kThrow; on all ranks.
  void advance();

  /// Waits until nothing is in flight.
  void finish();

  /// Whether one is being written: what is heard of the ranks after each update decides how it goes
  /// on.
  bool is_saving() const noexcept { return stage_ != Stage::kIdle; }

  /// Whether the newest checkpoint is of this very place, or is being written.
  bool has(std::int64_t update, bool in_epoch) const {
    return newest_ == std::pair(update, in_epoch);
  }

  /// What has been committed since this was called last.
  std::vector<Committed> take_committed() { return std::exchange(committed_, {}); }

  const std::filesystem::path& directory() const noexcept { return root_.path(); }

 private:
  enum class Stage { kIdle, kWriting, kCommitting };

  std::string begin_folder(std::int64_t update);
  std::function<void()> work_for(const CheckpointContents& contents, const TensorDict& of_rank);
  void start(std::function<void()> work);
  void fail(const std::string& why);
  void commit();
  void remove_old();
  void drop();
  void tell_failure(const std::string& why);

  CheckpointOptions options_;
  Accelerator* accelerator_;
  CheckpointFolder root_;
  HostCopies model_copies_;
  HostCopies optimizer_copies_;
  HostCopies rest_copies_;
  HostCopies rank_copies_;
  Stage stage_ = Stage::kIdle;
  std::filesystem::path folder_;                         // of the checkpoint in flight
  Manifest manifest_;                                    // likewise; the main process's
  std::string failure_;                                  // of this rank
  std::optional<std::pair<std::int64_t, bool>> newest_;  // update and in_epoch
  std::vector<Committed> committed_;
  BackgroundTask task_;  // last: it uses the others, and is waited for before they go
};

}  // namespace torch_accelerated
