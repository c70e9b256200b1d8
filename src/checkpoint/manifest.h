// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace torch_accelerated {

/// The format of checkpoints that this version writes, and the highest that it reads.
inline constexpr int kCheckpointFormat = 1;

/// One file of a checkpoint.
struct ManifestFile {
  std::string name;  ///< a plain one, within the checkpoint's folder
  std::uint64_t bytes = 0;
  std::uint32_t crc32c = 0;  ///< of the whole file

  bool operator==(const ManifestFile&) const = default;
};

/// What commits a checkpoint: which files belong to it, and what they hold.
struct Manifest {
  int format = kCheckpointFormat;
  std::string library = {};   ///< version of the library that wrote it, such as "0.1.0"
  std::int64_t update = 0;    ///< after how many updates it was taken
  std::int64_t sequence = 0;  ///< 1, 2, 3... in the order of commit within the directory
  int world_size = 1;
  bool is_kept = false;  ///< whether it stays, however many newer ones there are
  std::optional<double> metric = std::nullopt;  ///< of what is watched, for keeping the best ones
  std::vector<ManifestFile> files = {};

  bool operator==(const Manifest&) const = default;
};

/// What a manifest may hold at most; more is refused before memory is taken for it.
struct ManifestLimits {
  static constexpr std::size_t kBytes = std::size_t{1} << 26;
  static constexpr std::size_t kFiles = 100'000;
  static constexpr int kWorldSize = 100'000;
  static constexpr std::size_t kLibraryBytes = 64;
};

/// The manifest as JSON, one file a line, with the SHA-256 of all that stands before it in the last
/// line. The same manifest gives the same bytes. A metric that isn't finite is left out.
///
/// Whatever the format, the text begins with "format" and "library" and ends with "sha256", so that
/// an older reader can tell a newer format from a damaged file.
/// @throws ArgumentError  what a reader would refuse.
std::string manifest_text(const Manifest& manifest);

/// Reads such a text. Only the very bytes that `manifest_text` gives are taken, so that no altered
/// bit and no cut goes unnoticed.
///
/// @throws CheckpointError  anything else, a newer format included; the text names `file_name`.
Manifest parse_manifest(std::string_view text, std::string_view file_name);

}  // namespace torch_accelerated
