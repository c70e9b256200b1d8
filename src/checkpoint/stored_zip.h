// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace torch_accelerated {

/// One file in an archive.
struct StoredZipEntry {
  std::string_view name;
  std::string_view bytes;
  std::uint32_t crc = 0;  ///< the CRC-32 that the archive says `bytes` have
};

/// What an archive may hold at most; more is refused before memory is taken for it.
struct StoredZipLimits {
  static constexpr std::uint64_t kEntries = 1'000'000;
  static constexpr std::size_t kNameBytes = 4096;
};

/// The directory of a zip archive in memory whose entries are stored as they are, as torch.save
/// writes it.
///
/// Nothing is copied, so that the file's bytes outlive this. Entries neither overlap nor share a
/// name, none is compressed or encrypted, and the archive is one file without a comment, whose
/// directory ends it. Names are names: nothing is ever written to a path of theirs.
/// @par Source  PKWARE, APPNOTE.TXT 6.3.10, sections 4.3 to 4.5.
class StoredZip {
 public:
  /// Reads the directory, zip64 or not; no entry's bytes are looked at.
  ///
  /// @throws CheckpointError  anything else; the text names the file and the offset or the entry.
  StoredZip(std::string_view file, std::string file_name);

  /// In the order of the directory.
  const std::vector<StoredZipEntry>& entries() const { return entries_; }

  /// The entry of this name; null where there is none.
  const StoredZipEntry* find(std::string_view name) const;

  /// Compares an entry's bytes with their CRC-32.
  ///
  /// @throws CheckpointError  they differ.
  void check(const StoredZipEntry& entry) const;

 private:
  std::string file_name_;
  std::vector<StoredZipEntry> entries_;
  std::vector<std::size_t> by_name_;  // positions in entries_
};

}  // namespace torch_accelerated
