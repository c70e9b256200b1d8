// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/stored_zip.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "support/mutations.h"
#include "support/stored_zip_files.h"
#include "support/torch_files.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

using ::testing::AllOf;
using testing::append_number;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::overwrite;
using testing::stored_zip;
using testing::ZipPart;

std::vector<std::string_view> names(const StoredZip& zip) {
  std::vector<std::string_view> result;
  for (const StoredZipEntry& entry : zip.entries()) result.push_back(entry.name);
  return result;
}

std::string message(const std::string& file) {
  try {
    const StoredZip zip(file, "m.pt");
    for (const StoredZipEntry& entry : zip.entries()) zip.check(entry);
  } catch (const CheckpointError& error) {
    return error.what();
  }
  return "accepted";
}

std::string two_parts(bool is_wide) {
  return stored_zip({{"m/a", "first"}, {"m/b", "second"}}, is_wide);
}

// Where the nth header in the directory begins.
std::size_t central(const std::string& file, std::size_t nth = 0) {
  std::size_t at = file.find("PK\1\2");
  for (; nth > 0; --nth) at = file.find("PK\1\2", at + 1);
  return at;
}

TEST(StoredZip, ReadsWhatTorchWrote) {
  const std::string file = testing::golden_file("buffer.pt");
  const StoredZip zip(file, "buffer.pt");
  EXPECT_THAT(names(zip),
              ElementsAre("archive/data.pkl", "archive/.format_version",
                          "archive/.storage_alignment", "archive/byteorder", "archive/data/0",
                          "archive/data/1", "archive/version", "archive/.data/serialization_id"));
  for (const StoredZipEntry& entry : zip.entries()) EXPECT_NO_THROW(zip.check(entry)) << entry.name;
  ASSERT_NE(zip.find("archive/byteorder"), nullptr);
  EXPECT_EQ(zip.find("archive/byteorder")->bytes, "little");
  EXPECT_EQ(zip.find("archive/data/0")->bytes.size(), 48U);
  EXPECT_EQ(zip.find("archive/data/2"), nullptr);
}

TEST(StoredZip, ReadsBothFormsOfTheDirectory) {
  for (bool is_wide : {false, true}) {
    const std::string file = two_parts(is_wide);
    const StoredZip zip(file, "m.pt");
    EXPECT_THAT(names(zip), ElementsAre("m/a", "m/b"));
    EXPECT_EQ(zip.find("m/b")->bytes, "second");
    EXPECT_EQ(message(file), "accepted");
    EXPECT_TRUE(StoredZip(stored_zip({}, is_wide), "m.pt").entries().empty());
  }
}

// What a file beyond 4 GiB has for its last entries.
TEST(StoredZip, ReadsSizesOf64BitsWhereThoseOf32AreFull) {
  std::string extra;
  append_number(extra, 0xCAFE, 2);  // another field, to be passed over
  append_number(extra, 3, 2);
  extra += "xyz";
  append_number(extra, 1, 2);
  append_number(extra, 28, 2);
  for (std::uint64_t number : {6, 6, 0}) append_number(extra, number, 8);
  append_number(extra, 0, 4);
  std::string file = stored_zip({{"m/a", "wanted", 0, 0, extra}});
  const std::size_t at = central(file);
  overwrite(file, at + 20, 0xFFFFFFFF, 4);
  overwrite(file, at + 24, 0xFFFFFFFF, 4);
  overwrite(file, at + 34, 0xFFFF, 2);
  overwrite(file, at + 42, 0xFFFFFFFF, 4);
  EXPECT_EQ(message(file), "accepted");
  EXPECT_EQ(StoredZip(file, "m.pt").find("m/a")->bytes, "wanted");

  for (std::uint64_t huge : {std::uint64_t{1} << 63, std::numeric_limits<std::uint64_t>::max()}) {
    std::string hostile = file;
    const std::size_t sizes = hostile.find("xyz", at) + 3 + 4;
    overwrite(hostile, sizes, huge, 8);
    overwrite(hostile, sizes + 8, huge, 8);
    EXPECT_THAT(message(hostile), HasSubstr("entry 'm/a': its bytes are "));
    overwrite(hostile, sizes + 16, huge, 8);
    EXPECT_THAT(message(hostile), HasSubstr("entry 'm/a': its header is said to be at "));
  }
  overwrite(file, file.find("xyz", at) + 3 + 2, 24, 2);
  EXPECT_THAT(message(file), HasSubstr("its zip64 field is too short"));
  overwrite(file, file.find("xyz", at) + 3 + 2, 29, 2);
  EXPECT_THAT(message(file), HasSubstr("its extra field is malformed"));
}

struct Hostile {
  std::string file;
  std::string_view words;
};

std::string changed(std::size_t at_end, std::uint64_t number, std::size_t size,
                    bool is_wide = false) {
  std::string file = two_parts(is_wide);
  overwrite(file, file.size() - at_end, number, size);
  return file;
}

std::vector<Hostile> wrong_ends() {
  constexpr std::uint64_t kHuge = std::uint64_t{1} << 63;
  return {
      {"", "it doesn't end with the last record of a zip archive"},
      {"PK", "expected one in the last 22 of its 2 bytes"},
      {two_parts(false) + "x", "it was cut short or added to"},
      {changed(18, 1, 2), "the archive is in several parts or has a comment"},
      {changed(14, 1, 2), "the archive is in several parts or has a comment"},
      {changed(2, 1, 2), "the archive is in several parts or has a comment"},
      {changed(6, 0xFFFFFFFF, 4), "the directory is said to take 98 bytes from 4294967295 on"},
      {changed(10, 0xFFFFFFFF, 4), "the directory is said to take 4294967295 bytes"},
      {changed(14, 0x00010001, 4), "49 bytes follow the last entry of the directory"},
      {changed(14, 0x00030003, 4), "is said to have 3 entries, expected at most 1000000"},
      {changed(14, 0xFFFFFFFF, 4), "is said to have 65535 entries"},
      {changed(34, kHuge, 8, true), "it says that the zip64 record is at 9223372036854775808"},
      {changed(26, 2, 4, true), "the archive is in several parts"},
      {changed(50, kHuge, 8, true), "entries are at 9223372036854775808, which the record at the"},
      {changed(58, kHuge, 8, true), "which the record at the end or the archive's layout"},
      {changed(66, kHuge, 8, true), "the archive is in several parts"},
  };
}

std::vector<Hostile> wrong_entries() {
  const std::string plain = two_parts(true);
  const auto with = [&](std::size_t at, std::uint64_t number, std::size_t size) {
    std::string file = plain;
    overwrite(file, at, number, size);
    return file;
  };
  const std::size_t second = central(plain, 1);
  std::string damaged = plain;
  damaged[plain.find("second")] ^= 4;
  std::string unchecked = with(second + 16, 0, 4);
  // The first entry's bytes go on over the header of the second.
  std::string overlapping = plain;
  overwrite(overlapping, central(plain) + 20, 10, 4);
  overwrite(overlapping, central(plain) + 24, 10, 4);
  return {
      {stored_zip({{"m/a", "x"}, {"m/a", "y"}}), "entry 'm/a': it is there twice"},
      {stored_zip({{"m/a", "x", 1}}), "entry 'm/a': it is encrypted"},
      {stored_zip({{"m/a", "x", 1 << 13}}), "entry 'm/a': it is encrypted"},
      {stored_zip({{"m/a", "x", 0, 8}}), "entry 'm/a': it is compressed by method 8"},
      {with(second + 20, 5, 4), "entry 'm/b': it is compressed by method 0"},
      {with(second + 34, 1, 2), "entry 'm/b': it is in another part of the archive"},
      {with(second, 0, 4), "expected the next entry of the directory"},
      {with(second + 28, 4097, 2), "an entry has a name of 4097 bytes, expected at most 4096"},
      {with(second + 32, 0xFFFF, 2), "an entry has a name of 3 bytes"},
      {with(second + 46, 'M', 1), "entry 'M/b': its header at 38 says another name"},
      {with(second + 8, 8, 2), "entry 'm/b': its header at 38 says another name or kind"},
      {with(second + 42, 0, 4), "entry 'm/b': its header at 0 says another name"},
      {with(second + 42, 0xFFFFFFF0, 4), "its header is said to be at 4294967280, expected one"},
      {with(38 + 28, 0xFFFF, 2), "entry 'm/b': its header at 38 says another name"},
      {overlapping, "entry 'm/a': it ends at 43 and overlaps the entry 'm/b' at 38"},
      {damaged, "entry 'm/b': its CRC-32 is "},
      {unchecked, "torch.serialization.set_crc32_options(False)"},
  };
}

TEST(StoredZip, RefusesWhateverIsHostileByOneSentence) {
  const std::int64_t peak_before = testing::peak_memory_kib();
  for (const auto& cases : {wrong_ends(), wrong_entries()}) {
    for (const Hostile& hostile : cases) {
      EXPECT_THAT(message(hostile.file),
                  AllOf(HasSubstr("torch.save file 'm.pt': "), HasSubstr(hostile.words)))
          << hostile.words;
    }
  }
  if (!testing::is_sanitised()) {
    EXPECT_LT(testing::peak_memory_kib() - peak_before, 16 * 1024);
  }
}

TEST(StoredZip, TakesNoMemoryForEntriesThatAreOnlyClaimed) {
  std::string file = two_parts(true);
  const std::uint64_t claimed = std::uint64_t{1} << 40;
  for (std::size_t at_end : {74, 66}) overwrite(file, file.size() - at_end, claimed, 8);
  overwrite(file, file.size() - 14, 0xFFFFFFFF, 4);
  EXPECT_THAT(message(file), HasSubstr("is said to have 1099511627776 entries"));
}

TEST(StoredZip, IsRefusedAtEveryTruncation) {
  for (const std::string& file : {two_parts(false), two_parts(true)}) {
    for (std::size_t size = 0; size < file.size(); ++size) {
      EXPECT_THROW(StoredZip(std::string_view(file).substr(0, size), "cut"), CheckpointError)
          << size;
    }
  }
}

}  // namespace
}  // namespace torch_accelerated
