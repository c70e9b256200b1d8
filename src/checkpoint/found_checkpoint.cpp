// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/found_checkpoint.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <system_error>
#include <tuple>

#include "base/crc32c.h"
#include "base/text.h"
#include "checkpoint/checkpoint_names.h"
#include "checkpoint/file_failure.h"
#include "checkpoint/regular_file.h"
#include "checkpoint/safetensors_text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

constexpr std::size_t kBlockBytes = std::size_t{1} << 20;

// Nothing where it isn't committed.
std::optional<Manifest> manifest_in(const std::filesystem::path& checkpoint) {
  const auto path = checkpoint / kManifestName;
  auto file = RegularFile::open(path);
  if (!file) return std::nullopt;
  if (file->size() > ManifestLimits::kBytes) {
    throw CheckpointError(concat("manifest '", path.string(), "': it has ", file->size(),
                                 " bytes, expected at most ", ManifestLimits::kBytes,
                                 "; use an earlier checkpoint."));
  }
  std::string text(static_cast<std::size_t>(file->size()), '\0');
  text.resize(file->read(text.data(), text.size()));
  return parse_manifest(text, path.string());
}

std::pair<std::uint64_t, std::uint32_t> size_and_crc(RegularFile& file) {
  std::vector<char> block(kBlockBytes);
  std::uint64_t size = 0;
  Crc32c crc;
  while (const auto got = file.read(block.data(), block.size())) {
    crc.update(block.data(), got);
    size += got;
  }
  return {size, crc.value()};
}

// What is wrong with a checkpoint's file; empty where nothing is.
std::string difference(const std::filesystem::path& path, const ManifestFile& expected,
                       bool contents) {
  auto file = RegularFile::open(path);
  if (!file) return "is missing";
  std::uint64_t size = file->size();
  std::uint32_t crc = expected.crc32c;
  if (contents && size == expected.bytes) std::tie(size, crc) = size_and_crc(*file);
  if (size != expected.bytes) {
    return concat("has ", size, " bytes, its manifest says ", expected.bytes);
  }
  if (crc != expected.crc32c) {
    return concat("has the CRC32C ", crc_text(crc), ", its manifest says ",
                  crc_text(expected.crc32c));
  }
  return {};
}

auto order_of(const FoundCheckpoint& found) {
  return std::tuple(found.manifest.sequence, found.manifest.update, found.path);
}

}  // namespace

std::vector<std::filesystem::path> checkpoint_folders(const std::filesystem::path& directory) {
  constexpr std::string_view kCure = "check the directory and its permissions";
  std::vector<std::filesystem::path> folders;
  std::error_code error;
  std::filesystem::directory_iterator entry(directory, error);
  if (error == std::errc::no_such_file_or_directory) return folders;
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    const auto& path = entry->path();
    if (parse_checkpoint_folder_name(path.filename().string()) && is_folder_itself(path)) {
      folders.push_back(path);
    }
  }
  if (error) throw_file_error(directory, "read as a directory", error.value(), kCure);
  return folders;
}

FoundCheckpoints find_checkpoints(const std::filesystem::path& directory) {
  FoundCheckpoints found;
  for (const auto& folder : checkpoint_folders(directory)) {
    try {
      if (auto manifest = manifest_in(folder)) {
        found.committed.push_back({folder, std::move(*manifest)});
      }
    } catch (const Error& error) {
      found.damaged.emplace_back(folder, error.what());
    }
  }
  std::sort(found.committed.begin(), found.committed.end(),
            [](const auto& one, const auto& other) { return order_of(one) < order_of(other); });
  std::sort(found.damaged.begin(), found.damaged.end());
  return found;
}

Manifest read_manifest(const std::filesystem::path& path) {
  auto manifest = manifest_in(path);
  if (!manifest) {
    throw CheckpointError(concat("checkpoint '", path.string(), "': it has no ", kManifestName,
                                 ", expected a folder with one, which makes it complete; use "
                                 "another checkpoint."));
  }
  return std::move(*manifest);
}

ManifestFile summed_file(const std::filesystem::path& path) {
  auto file = RegularFile::open(path);
  if (!file) throw_file_error(path, "read", ENOENT, "check the path");
  const auto [size, crc] = size_and_crc(*file);
  return {.name = path.filename().string(), .bytes = size, .crc32c = crc};
}

void check_files(const FoundCheckpoint& checkpoint, bool contents) {
  for (const ManifestFile& file : checkpoint.manifest.files) {
    std::string wrong;
    try {
      wrong = difference(checkpoint.path / file.name, file, contents);
    } catch (const FileError& error) {
      wrong = concat("can't be checked: ", error.what());
    }
    if (!wrong.empty()) {
      throw CheckpointError(concat("checkpoint '", checkpoint.path.string(), "': file '", file.name,
                                   "' ", wrong, "; use an earlier checkpoint."));
    }
  }
}

}  // namespace torch_accelerated
