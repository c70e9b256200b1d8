// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/checkpoint_folder.h"

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "base/text.h"
#include "checkpoint/checkpoint_names.h"
#include "checkpoint/file_failure.h"
#include "checkpoint/output_file.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/base/log.h"

namespace torch_accelerated {
namespace {

constexpr std::string_view kCure =
    "check the directory, its permissions and the space that is left";

// A program that changes its folder goes on with the same directory, and the last part of the path
// is no link, which `FileIo::open` would refuse.
std::filesystem::path fixed(const std::filesystem::path& path) {
  std::error_code ignored;
  auto whole = std::filesystem::absolute(path, ignored);
  if (whole.empty()) whole = path;
  auto found = std::filesystem::weakly_canonical(whole, ignored);
  if (found.empty()) found = whole.lexically_normal();
  return found.has_filename() ? found : found.parent_path();
}

void make_folders(FileIo& io, const std::filesystem::path& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return;
  const auto parent = path.parent_path();
  if (parent != path && !parent.empty()) make_folders(io, parent);
  if (io.make_folder(path.string(), 0777) != 0) {
    const int error = errno;  // another rank may have been first
    if (error == EEXIST && std::filesystem::is_directory(path, ignored)) return;
    throw_file_error(path, "made a directory of checkpoints", error,
                     "give another directory, or check the permissions of the one above");
  }
  sync_folder(io, parent.string());
}

std::vector<std::string> names_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator entry(folder, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    throw_file_error(folder, "read as a directory", error.value(), kCure);
  }
  return names;
}

// Whether it is a file of an uncommitted checkpoint of ours, which may go.
bool is_own_file(const std::filesystem::path& path) {
  const auto name = path.filename().string();
  return (is_checkpoint_file_name(name) || name == kNewManifestName) && is_file_itself(path);
}

void warn_of_rest(const std::filesystem::path& folder, std::string_view name) {
  log(LogLevel::kWarning,
      concat("checkpoint folder '", folder.string(), "' is no checkpoint and isn't deleted: '",
             name, "' in it was not written by this library; move it and delete the folder"));
}

}  // namespace

CheckpointFolder::CheckpointFolder(const std::filesystem::path& directory, FileIo& io)
    : directory_(directory.empty() ? directory : fixed(directory)), io_(io) {
  if (directory_.empty()) {
    throw ArgumentError(
        "checkpoint directory: its name is empty, expected the path of a directory");
  }
}

void CheckpointFolder::create() {
  make_folders(io_, directory_);
  remove_token(put_token());
}

std::string CheckpointFolder::put_token() {
  auto name = new_token_name();
  write_new_file(io_, (directory_ / name).string(), name);
  tokens_.insert(name);
  return name;
}

bool CheckpointFolder::has_token(std::string_view name) const {
  return is_token_name(name) && is_file_itself(directory_ / name);
}

void CheckpointFolder::remove_token(const std::string& name) {
  if (!is_token_name(name)) {
    throw ArgumentError(concat("remove_token: '", name, "' is no name that put_token gives"));
  }
  tokens_.erase(name);
  remove_file(directory_ / name);
}

void CheckpointFolder::lock(std::chrono::milliseconds patience) {
  if (!lock_) lock_.emplace(io_, directory_, patience);
}

std::filesystem::path CheckpointFolder::begin(std::int64_t update) {
  constexpr int kTries = 1000;
  require_lock("begin");
  if (update < 0 || update > kLargestNumber) {
    throw ArgumentError(concat("begin: the update is ", update, ", expected 0 to 2^53"));
  }
  CheckpointName name{.update = update};
  for (const auto& folder : checkpoint_folders(directory_)) {
    const auto other = parse_checkpoint_folder_name(folder.filename().string());
    if (other->update == update) name.number = std::max(name.number, other->number + 1);
  }
  auto path = directory_ / checkpoint_folder_name(name);
  for (int i = 1; io_.make_folder(path.string(), 0777) != 0; ++i) {
    if (errno != EEXIST || i == kTries) throw_file_error(path, "created", errno, kCure);
    ++name.number;  // something else has that name
    path = directory_ / checkpoint_folder_name(name);
  }
  return path;  // commit() sees to it that the disk has the name
}

FoundCheckpoint CheckpointFolder::commit(const std::filesystem::path& checkpoint,
                                         Manifest manifest) {
  require_lock("commit");
  FoundCheckpoint added{own_checkpoint(checkpoint, "commit"), std::move(manifest)};
  if (is_taken(added.path / kManifestName)) {
    throw StateError(concat("commit: '", added.path.string(),
                            "' is committed already, expected a folder that begin gave"));
  }
  for (const ManifestFile& file : added.manifest.files) {
    if (!is_checkpoint_file_name(file.name)) {  // clean wouldn't delete it
      throw ArgumentError(concat("commit: file '", file.name,
                                 "' is none that is_checkpoint_file_name knows; add it there"));
    }
  }
  check_files(added, /*contents=*/false);
  if (added.manifest.sequence == 0) {
    const auto earlier = scan();
    added.manifest.sequence = earlier.empty() ? 1 : earlier.back().manifest.sequence + 1;
  }
  sync_folder(io_, added.path.string());
  publish_manifest(added.path, added.manifest);
  return added;
}

void CheckpointFolder::publish_manifest(const std::filesystem::path& checkpoint,
                                        const Manifest& manifest) {
  const auto beside = checkpoint / kNewManifestName;
  const auto path = checkpoint / kManifestName;
  write_new_file(io_, beside.string(), manifest_text(manifest));
  if (io_.rename(beside.string(), path.string()) != 0) {
    const int error = errno;
    io_.remove(beside.string());
    throw_file_error(path, "given its name", error, kCure);
  }
  try {
    sync_folder(io_, checkpoint.string());
    sync_folder(io_, directory_.string());
  } catch (...) {
    // The caller takes it for lost, and it may yet be.
    io_.remove(path.string());
    throw;
  }
}

void CheckpointFolder::clean() {
  require_lock("clean");
  for (const auto& checkpoint : checkpoint_folders(directory_)) {
    if (!is_taken(checkpoint / kManifestName)) {
      remove_uncommitted(checkpoint);
    } else if (is_file_itself(checkpoint / kNewManifestName)) {
      remove_file(checkpoint / kNewManifestName);
    }
  }
  for (const auto& name : names_in(directory_)) {
    if (has_token(name) && !tokens_.contains(name)) remove_file(directory_ / name);
  }
  sync_folder(io_, directory_.string());
}

void CheckpointFolder::remove_uncommitted(const std::filesystem::path& checkpoint) {
  const auto names = names_in(checkpoint);
  for (const auto& name : names) {
    if (!is_own_file(checkpoint / name)) {
      warn_of_rest(checkpoint, name);
      return;
    }
  }
  for (const auto& name : names) remove_file(checkpoint / name);
  if (!remove_folder(checkpoint)) warn_of_rest(checkpoint, "a file");
}

void CheckpointFolder::remove(const FoundCheckpoint& checkpoint) {
  require_lock("remove");
  const auto path = own_checkpoint(checkpoint.path, "remove");
  remove_file(path / kManifestName);
  // From here on it is uncommitted, also after a loss of power.
  sync_folder(io_, path.string());
  std::string foreign = "a file";
  for (const auto& name : names_in(path)) {
    if (is_own_file(path / name)) {
      remove_file(path / name);
    } else {
      foreign = name;
    }
  }
  if (!remove_folder(path)) warn_of_rest(path, foreign);
  sync_folder(io_, directory_.string());
}

void CheckpointFolder::require_lock(std::string_view call) const {
  if (lock_) return;
  throw StateError(concat("checkpoint directory '", directory_.string(), "': ", call,
                          " wants the lock; call lock() first"));
}

std::filesystem::path CheckpointFolder::own_checkpoint(const std::filesystem::path& path,
                                                       std::string_view call) const {
  const auto whole = directory_ / path.filename();
  if (!parse_checkpoint_folder_name(path.filename().string()) ||
      fixed(path.parent_path()) != directory_ || !is_folder_itself(whole)) {
    throw ArgumentError(concat(call, ": '", path.string(), "' is no checkpoint's folder in '",
                               directory_.string(), "'; give one that begin or scan gave"));
  }
  return whole;
}

void CheckpointFolder::remove_file(const std::filesystem::path& path) {
  if (io_.remove(path.string()) != 0 && errno != ENOENT) {
    throw_file_error(path, "deleted", errno, kCure);
  }
}

bool CheckpointFolder::remove_folder(const std::filesystem::path& path) {
  if (io_.remove_folder(path.string()) == 0 || errno == ENOENT) return true;
  if (errno == ENOTEMPTY || errno == EEXIST) return false;
  throw_file_error(path, "deleted", errno, kCure);
}

}  // namespace torch_accelerated
