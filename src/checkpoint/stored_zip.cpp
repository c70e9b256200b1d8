// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/stored_zip.h"

#include <zlib.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "checkpoint/torch_file_text.h"

namespace torch_accelerated {
namespace {

constexpr std::string_view kAgain = "; download or copy the file again.";
constexpr std::uint64_t kLocalBytes = 30;
constexpr std::uint64_t kCentralBytes = 46;
constexpr std::uint64_t kEndBytes = 22;
constexpr std::uint64_t kLocatorBytes = 20;
constexpr std::uint64_t kWideEndBytes = 56;
constexpr std::uint64_t kMost16 = 0xFFFF;
constexpr std::uint64_t kMost32 = 0xFFFFFFFF;

struct Directory {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  std::uint64_t entries = 0;
};

// What the directory says of an entry.
struct Record {
  StoredZipEntry entry;
  std::uint64_t packed = 0;  // bytes
  std::uint64_t size = 0;    // bytes
  std::uint64_t offset = 0;  // of its local header
  std::uint64_t disk = 0;
  std::uint64_t end = 0;  // one beyond its last byte in the file
};

class Reader {
 public:
  Reader(std::string_view file, std::string_view file_name) : file_(file), file_name_(file_name) {}

  std::vector<Record> records() const;

 private:
  Directory directory() const;
  Directory wide_directory(const Directory& narrow) const;
  Record record(std::uint64_t at, const Directory& directory) const;
  void widen(Record& record, std::string_view extra) const;
  void find_bytes(Record& record, std::uint64_t at, const Directory& directory) const;

  std::uint64_t number(std::uint64_t at, std::size_t size) const {
    return little_endian(file_, static_cast<std::size_t>(at), size);
  }
  std::string_view text(std::uint64_t at, std::uint64_t size) const {
    return file_.substr(static_cast<std::size_t>(at), static_cast<std::size_t>(size));
  }
  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    refuse_torch_file(file_name_, parts...);
  }
  template <class... Parts>
  [[noreturn]] void refuse(const Record& record, const Parts&... parts) const {
    refuse("entry '", shown(record.entry.name), "': ", parts...);
  }

  std::string_view file_;
  std::string_view file_name_;
};

// The narrow record at the very end, or what the wide one before it says instead.
Directory Reader::directory() const {
  const std::uint64_t size = file_.size();
  if (size < kEndBytes || text(size - kEndBytes, 4) != "PK\5\6") {
    refuse("it doesn't end with the last record of a zip archive, expected one in the last ",
           kEndBytes, " of its ", size, " bytes; it was cut short or added to: download or copy ",
           "the file again.");
  }
  const std::uint64_t at = size - kEndBytes;
  Directory narrow{number(at + 16, 4), at, number(at + 10, 2)};
  const std::uint64_t disks = number(at + 4, 4);
  if (disks != 0 || number(at + 8, 2) != narrow.entries || number(at + 20, 2) != 0) {
    refuse("offset ", at,
           ": the archive is in several parts or has a comment, expected a single file without "
           "one",
           kAgain);
  }
  if (at >= kLocatorBytes && text(at - kLocatorBytes, 4) == "PK\6\7")
    narrow = wide_directory(narrow);
  const std::uint64_t bytes = number(at + 12, 4);
  if (narrow.begin > narrow.end || std::min(narrow.end - narrow.begin, kMost32) != bytes) {
    refuse("offset ", at, ": the directory is said to take ", bytes, " bytes from ", narrow.begin,
           " on, expected that it ends at ", narrow.end, kAgain);
  }
  return narrow;
}

Directory Reader::wide_directory(const Directory& narrow) const {
  const std::uint64_t locator = narrow.end - kLocatorBytes;
  const std::uint64_t at = number(locator + 8, 8);
  if (locator < kWideEndBytes || at != locator - kWideEndBytes || text(at, 4) != "PK\6\6" ||
      number(at + 4, 8) != kWideEndBytes - 12) {
    refuse("offset ", locator, ": it says that the zip64 record is at ", at,
           ", expected a record of ", kWideEndBytes, " bytes right before", kAgain);
  }
  const Directory wide{number(at + 48, 8), at, number(at + 32, 8)};
  if (number(locator + 4, 4) != 0 || number(locator + 16, 4) > 1 || number(at + 16, 8) != 0 ||
      number(at + 24, 8) != wide.entries) {
    refuse("offset ", at, ": the archive is in several parts, expected a single file", kAgain);
  }
  if (std::min(wide.begin, kMost32) != narrow.begin ||
      std::min(wide.entries, kMost16) != narrow.entries || wide.begin > at ||
      number(at + 40, 8) != at - wide.begin) {
    refuse("offset ", at, ": the zip64 record says that ", wide.entries, " entries are at ",
           wide.begin, ", which the record at the end or the archive's layout contradicts", kAgain);
  }
  return wide;
}

// Sizes that don't fit 32 bits stand in the extra field, each only where its own place is full.
void Reader::widen(Record& record, std::string_view extra) const {
  while (extra.size() >= 4) {
    const std::size_t size = little_endian(extra, 2, 2);
    if (size > extra.size() - 4) break;
    std::string_view wide = extra.substr(4, size);
    if (little_endian(extra, 0, 2) == 1) {
      const auto take = [&](std::uint64_t& field, std::uint64_t full, std::size_t bytes) {
        if (field != full) return;
        if (wide.size() < bytes) refuse(record, "its zip64 field is too short", kAgain);
        field = little_endian(wide, 0, bytes);
        wide.remove_prefix(bytes);
      };
      take(record.size, kMost32, 8);
      take(record.packed, kMost32, 8);
      take(record.offset, kMost32, 8);
      take(record.disk, kMost16, 4);
    }
    extra.remove_prefix(4 + size);
  }
  if (!extra.empty()) refuse(record, "its extra field is malformed", kAgain);
}

// The bytes begin after the local header, whose name must be the directory's.
void Reader::find_bytes(Record& record, std::uint64_t at, const Directory& directory) const {
  const auto is_inside = [&](std::uint64_t begin, std::uint64_t size) {
    return begin <= directory.begin && size <= directory.begin - begin;
  };
  if (!is_inside(record.offset, kLocalBytes) || text(record.offset, 4) != "PK\3\4") {
    refuse(record, "its header is said to be at ", record.offset,
           ", expected one before the directory at ", directory.begin, kAgain);
  }
  const std::uint64_t name_at = record.offset + kLocalBytes;
  const std::uint64_t name_size = number(record.offset + 26, 2);
  const std::uint64_t before = name_size + number(record.offset + 28, 2);
  if (!is_inside(name_at, before) || text(name_at, name_size) != record.entry.name ||
      number(record.offset + 6, 4) != number(at + 8, 4)) {
    refuse(record, "its header at ", record.offset, " says another name or kind than the directory",
           kAgain);
  }
  if (!is_inside(name_at + before, record.size)) {
    refuse(record, "its bytes are ", record.size, " from ", name_at + before,
           " on, expected that they end before the directory at ", directory.begin, kAgain);
  }
  record.entry.bytes = text(name_at + before, record.size);
  record.end = name_at + before + record.size;
}

Record Reader::record(std::uint64_t at, const Directory& directory) const {
  constexpr std::uint64_t kEncrypted = 1 << 0 | 1 << 6 | 1 << 13;
  const std::uint64_t left = directory.end - at;
  if (left < kCentralBytes || text(at, 4) != "PK\1\2") {
    refuse("offset ", at, ": expected the next entry of the directory", kAgain);
  }
  const std::uint64_t name_size = number(at + 28, 2);
  const std::uint64_t extra_size = number(at + 30, 2);
  if (name_size > StoredZipLimits::kNameBytes ||
      name_size + extra_size + number(at + 32, 2) > left - kCentralBytes) {
    refuse("offset ", at, ": an entry has a name of ", name_size, " bytes, expected at most ",
           StoredZipLimits::kNameBytes, " and an end before the directory's", kAgain);
  }
  Record record;
  record.entry.name = text(at + kCentralBytes, name_size);
  record.entry.crc = static_cast<std::uint32_t>(number(at + 16, 4));
  record.packed = number(at + 20, 4);
  record.size = number(at + 24, 4);
  record.disk = number(at + 34, 2);
  record.offset = number(at + 42, 4);
  widen(record, text(at + kCentralBytes + name_size, extra_size));
  if ((number(at + 8, 2) & kEncrypted) != 0) {
    refuse(record, "it is encrypted, expected plain bytes; ", kTorchSaveCure, ".");
  }
  if (number(at + 10, 2) != 0 || record.packed != record.size) {
    const bool is_program = record.entry.name.find("/code/") != std::string_view::npos;
    refuse(record, "it is compressed by method ", number(at + 10, 2),
           is_program ? ", as the program in a TorchScript archive is" : "",
           ", expected bytes stored as they are; ", kTorchSaveCure, ".");
  }
  if (record.disk != 0) refuse(record, "it is in another part of the archive", kAgain);
  find_bytes(record, at, directory);
  return record;
}

std::vector<Record> Reader::records() const {
  const Directory found = directory();
  if (found.entries > StoredZipLimits::kEntries ||
      found.entries > (found.end - found.begin) / kCentralBytes) {
    refuse("its directory of ", found.end - found.begin, " bytes is said to have ", found.entries,
           " entries, expected at most ", StoredZipLimits::kEntries, " of ", kCentralBytes,
           " bytes or more", kAgain);
  }
  std::vector<Record> records;
  records.reserve(static_cast<std::size_t>(found.entries));
  std::uint64_t at = found.begin;
  while (records.size() < found.entries) {
    records.push_back(record(at, found));
    at += kCentralBytes + number(at + 28, 2) + number(at + 30, 2) + number(at + 32, 2);
  }
  if (at != found.end) {
    refuse("offset ", at, ": ", found.end - at, " bytes follow the last entry of the directory",
           kAgain);
  }
  return records;
}

void refuse_overlaps(std::vector<Record> records, std::string_view file_name) {
  std::sort(records.begin(), records.end(),
            [](const Record& a, const Record& b) { return a.offset < b.offset; });
  const auto overlap =
      std::adjacent_find(records.begin(), records.end(),
                         [](const Record& a, const Record& b) { return b.offset < a.end; });
  if (overlap == records.end()) return;
  refuse_torch_file(file_name, "entry '", shown(overlap->entry.name), "': it ends at ",
                    overlap->end, " and overlaps the entry '", shown((overlap + 1)->entry.name),
                    "' at ", (overlap + 1)->offset, ", expected one behind the other", kAgain);
}

}  // namespace

StoredZip::StoredZip(std::string_view file, std::string file_name)
    : file_name_(std::move(file_name)) {
  std::vector<Record> records = Reader(file, file_name_).records();
  entries_.reserve(records.size());
  for (const Record& record : records) entries_.push_back(record.entry);
  refuse_overlaps(std::move(records), file_name_);
  by_name_.resize(entries_.size());
  std::iota(by_name_.begin(), by_name_.end(), std::size_t{0});
  std::sort(by_name_.begin(), by_name_.end(),
            [&](std::size_t a, std::size_t b) { return entries_[a].name < entries_[b].name; });
  const auto twice = std::adjacent_find(
      by_name_.begin(), by_name_.end(),
      [&](std::size_t a, std::size_t b) { return entries_[a].name == entries_[b].name; });
  if (twice == by_name_.end()) return;
  refuse_torch_file(file_name_, "entry '", shown(entries_[*twice].name),
                    "': it is there twice, expected once", kAgain);
}

const StoredZipEntry* StoredZip::find(std::string_view name) const {
  const auto found = std::lower_bound(
      by_name_.begin(), by_name_.end(), name,
      [&](std::size_t i, std::string_view wanted) { return entries_[i].name < wanted; });
  if (found == by_name_.end() || entries_[*found].name != name) return nullptr;
  return &entries_[*found];
}

void StoredZip::check(const StoredZipEntry& entry) const {
  const auto crc = static_cast<std::uint32_t>(
      crc32_z(0, reinterpret_cast<const unsigned char*>(entry.bytes.data()), entry.bytes.size()));
  if (crc == entry.crc) return;
  const std::string_view cause =
      entry.crc == 0 ? "; it may have been written after "
                       "torch.serialization.set_crc32_options(False): write it again without."
                     : "; its bytes are damaged: download or copy the file again.";
  refuse_torch_file(file_name_, "entry '", shown(entry.name), "': its CRC-32 is ", crc_text(crc),
                    ", expected ", crc_text(entry.crc), cause);
}

}  // namespace torch_accelerated
