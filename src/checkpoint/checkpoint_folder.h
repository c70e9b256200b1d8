// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/directory_lock.h"
#include "checkpoint/file_io.h"
#include "checkpoint/found_checkpoint.h"
#include "checkpoint/manifest.h"

namespace torch_accelerated {

/// A directory of checkpoints, each a folder "update-000000123" that is complete from the moment at
/// which its manifest has its name.
///
/// Killed or refused by the system anywhere, every call leaves the committed checkpoints as they
/// were, and what else it leaves `clean` removes. What changes checkpoints wants `lock` first and
/// throws a StateError without it; what the system refuses is a FileError. One thread at a time.
class CheckpointFolder {
 public:
  /// Touches nothing yet. A relative name is taken from where the program is now.
  explicit CheckpointFolder(const std::filesystem::path& directory, FileIo& io = system_io());

  /// Absolute, and through no link.
  const std::filesystem::path& path() const noexcept { return directory_; }

  /// Makes the directory, and those above it, where they are missing, and makes a file in it and
  /// removes it to see that this can be done.
  void create();

  /// Leaves a file with a random name, by which other ranks see whether they have the same
  /// directory. Put it under the lock: another job's `clean` removes it.
  std::string put_token();
  bool has_token(std::string_view name) const;
  void remove_token(const std::string& name);

  /// Keeps other jobs out until the end of this object or process.
  ///
  /// @param patience  how long to wait for a job that has it, such as one that is dying.
  /// @throws StateError  another job has it still; the text names its host and process.
  void lock(std::chrono::milliseconds patience = std::chrono::seconds(10));

  /// The committed checkpoints in the order of commit.
  std::vector<FoundCheckpoint> scan() const { return find_checkpoints(directory_).committed; }

  /// Makes the folder of a new checkpoint. Its files are named as `is_checkpoint_file_name` knows.
  std::filesystem::path begin(std::int64_t update);

  /// Makes the checkpoint that `begin` began complete, with the manifest given, whose sequence is
  /// filled in where it is 0. All its files must be on the disk. Gives what is committed.
  ///
  /// After it has returned nothing can undo it; after it has thrown the checkpoint isn't committed,
  /// unless the system refused to take the manifest back too.
  /// @throws CheckpointError  a file isn't there or has another size than the manifest says.
  FoundCheckpoint commit(const std::filesystem::path& checkpoint, Manifest manifest);

  /// Removes what earlier jobs left: checkpoints that weren't committed, new manifests that didn't
  /// get their name, and tokens. A checkpoint with a file in it that isn't ours stays, with a
  /// warning. Call it before `begin`: an unfinished checkpoint goes, whoever is writing it.
  void clean();

  /// Removes a committed checkpoint: first its manifest, then its files. One with other files in it
  /// keeps those, with a warning.
  void remove(const FoundCheckpoint& checkpoint);

 private:
  void require_lock(std::string_view call) const;
  std::filesystem::path own_checkpoint(const std::filesystem::path& path,
                                       std::string_view call) const;
  void publish_manifest(const std::filesystem::path& checkpoint, const Manifest& manifest);
  void remove_uncommitted(const std::filesystem::path& checkpoint);
  void remove_file(const std::filesystem::path& path);
  bool remove_folder(const std::filesystem::path& path);

  std::filesystem::path directory_;
  FileIo& io_;
  std::set<std::string, std::less<>> tokens_;  // put and not removed yet
  std::optional<DirectoryLock> lock_;
};

}  // namespace torch_accelerated
