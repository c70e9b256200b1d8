// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/data/idx.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "support/idx_files.h"
#include "support/temp_dir.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

using ::testing::AllOf;
using testing::Bytes;
using ::testing::ElementsAre;
using testing::gzipped;
using ::testing::HasSubstr;
using testing::idx_file;
using testing::joined;
using ::testing::MatchesRegex;
using testing::TempDir;

Bytes bytes_of(std::string_view text) { return Bytes(text.begin(), text.end()); }

template <class Call>
std::string data_error(Call call) {
  try {
    call();
  } catch (const DataError& error) {
    return error.what();
  }
  return "no error";
}

std::filesystem::path write(const TempDir& folder, const std::string& name, const Bytes& bytes) {
  const std::filesystem::path path = folder.path() / name;
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  return path;
}

TEST(Idx, ReadsPlainAndGzipAlike) {
  const Bytes plain = idx_file({2, 3, 4}, 24);
  const IdxArray array = parse_idx(plain, "plain");
  EXPECT_THAT(array.shape, ElementsAre(2, 3, 4));
  ASSERT_EQ(array.values.size(), 24U);
  EXPECT_EQ(array.values[13], 3);
  const IdxArray inflated = parse_idx(gzipped(plain), "gzip");
  EXPECT_EQ(inflated.shape, array.shape);
  EXPECT_EQ(inflated.values, array.values);
}

TEST(Idx, ReadsGzipOfSeveralMembers) {
  const Bytes plain = idx_file({50}, 50);
  for (std::size_t cut : {1U, 4U, 8U, 30U, 53U}) {
    const Bytes members =
        joined(gzipped({plain.data(), cut}), gzipped({plain.data() + cut, plain.size() - cut}));
    EXPECT_EQ(parse_idx(members, "members").values, parse_idx(plain, "plain").values) << cut;
  }
}

TEST(Idx, ReadsMoreThanOnePieceOfGzip) {
  const Bytes plain = idx_file({300, 1000}, 300'000);
  for (int level : {0, 1, 9}) {
    EXPECT_EQ(parse_idx(gzipped(plain, level), "gzip").values, parse_idx(plain, "plain").values);
  }
}

TEST(Idx, KeepsNoSpareMemory) {
  const Bytes plain = idx_file({1000, 100}, 100'000);
  EXPECT_EQ(parse_idx(plain, "plain").values.capacity(), 100'000U);
  EXPECT_EQ(parse_idx(gzipped(plain), "gzip").values.capacity(), 100'000U);
}

TEST(Idx, ReadsFilesByContentAndNotByName) {
  const TempDir folder;
  const Bytes plain = idx_file({7}, 7);
  EXPECT_THAT(read_idx(write(folder, "labels.gz", plain)).shape, ElementsAre(7));
  EXPECT_THAT(read_idx(write(folder, "labels", gzipped(plain))).shape, ElementsAre(7));
}

struct HostileFile {
  std::string name;
  Bytes bytes;
  std::string message;
};

std::vector<HostileFile> hostile_files() {
  const Bytes good = idx_file({2, 3}, 6);
  const Bytes good_gzip = gzipped(good);
  const Bytes cut_gzip(good_gzip.begin(), good_gzip.end() - 9);
  Bytes wrong_checksum = good_gzip;
  wrong_checksum[wrong_checksum.size() - 5] ^= 1;
  Bytes reserved_block = good_gzip;
  reserved_block[10] |= 6;
  const std::uint32_t most = 0xFFFFFFFF;
  return {
      {"empty", {}, "it holds 0 bytes, expected at least the 4"},
      {"three bytes", {0, 0, 8}, "it holds 3 bytes, expected at least the 4"},
      {"first byte of gzip", {0x1F}, "it holds 1 bytes"},
      {"web page", bytes_of("<!DOCTYPE html>"), "3c 21 44 4f.*web page"},
      {"zip", bytes_of("PK\x03\x04 and more"), "zip archive: unpack"},
      {"bzip2", bytes_of("BZh91AY"), "bzip2: decompress"},
      {"xz", bytes_of("\xFD\x37zXZ"), "xz: decompress"},
      {"zstd", bytes_of("\x28\xB5\x2F\xFD"), "zstd: decompress"},
      {"git lfs", bytes_of("version https://git-lfs"), "git lfs pull"},
      {"little-endian magic", {3, 8, 0, 0}, "offset 0: .* 03 08 00 00, expected 00 00 08"},
      {"floats", {0, 0, 0x0D, 1, 0, 0, 0, 1, 0, 0, 0, 0}, "offset 2: .* 0x0d .32-bit floats."},
      {"unknown type", {0, 0, 0x07, 1}, "0x07 .no type of the IDX format."},
      {"no sizes", {0, 0, 8, 0, 1}, "offset 3: the number of sizes is 0"},
      {"half a size", {0, 0, 8, 2, 0, 0, 0, 1, 0, 0}, "2 sizes and is 12 bytes.*end after 10"},
      {"255 sizes missing", {0, 0, 8, 255}, "255 sizes and is 1024 bytes.*end after 4"},
      {"size 0", idx_file({3, 0}, 0), "offset 8: size 2 of 2 is 0, expected >= 1"},
      {"overflow", idx_file({most, most, most}, 5),
       "4294967295 x 4294967295 x 4294967295 multiply"},
      {"overflow in many sizes", idx_file(std::vector<std::uint32_t>(255, 2), 5),
       "2 x 2 x .*more than"},
      {"wraps to few", idx_file({0x80000000, 0x80000000, 4}, 0), "multiply to more than"},
      {"huge", idx_file({most, 0x7FFFFFFF}, 5), "= 9223372030412324865 bytes.*only 5 follow"},
      {"cut short", idx_file({2, 3}, 5),
       "2 x 3 = 6 bytes of values after its 12, but only 5 follow"},
      {"goes on", idx_file({2, 3}, 9), "2 x 3 = 6 bytes of values after its 12, but 3 more follow"},
      {"gzip of nothing", gzipped({}), "it holds 0 bytes"},
      {"gzip header alone", {0x1F, 0x8B, 8, 0}, "compressed byte 4: .*middle of its compressed"},
      {"gzip cut", cut_gzip, "middle of its compressed data"},
      {"gzip without trailer",
       {good_gzip.begin(), good_gzip.end() - 8},
       "middle of its compressed"},
      {"gzip of other method", {0x1F, 0x8B, 7, 0, 0, 0, 0, 0, 0, 0}, "zlib: unknown compression"},
      {"gzip with wrong checksum", wrong_checksum, "zlib: incorrect data check"},
      {"gzip with reserved block", reserved_block, "zlib: invalid block type"},
      {"gzip then text", joined(good_gzip, bytes_of("abc")),
       "other bytes follow the end of the gzip"},
      {"gzip then half magic", joined(good_gzip, {0x1F, 0}), "damaged"},
      {"gzip then another", joined(good_gzip, good_gzip), "= 6 bytes.*but more follow"},
      {"gzip twice", gzipped(good_gzip), "compressed twice: gunzip it once"},
      {"gzip of too few", gzipped(idx_file({2, 3}, 5)), "= 6 bytes.*but only 5 follow"},
      {"gzip of too many", gzipped(idx_file({2, 3}, 9)), "= 6 bytes.*but more follow"},
      {"gzip of overflow", gzipped(idx_file({most, most, most}, 0)), "multiply to more than"},
      {"gzip of huge", gzipped(idx_file({most, 0x7FFFFFFF}, 50)), "compressed bytes expand to"},
  };
}

TEST(Idx, RefusesHostileFilesWithTheirReason) {
  for (const HostileFile& file : hostile_files()) {
    const std::string message = data_error([&] { parse_idx(file.bytes, file.name); });
    EXPECT_THAT(message, MatchesRegex(".*" + file.message + ".*")) << file.name;
    EXPECT_THAT(message, HasSubstr("'" + file.name + "'"));
    EXPECT_THAT(message, HasSubstr("; ")) << "a cure is missing: " << message;
  }
}

TEST(Idx, RefusesThoseFilesOnDiskInTheSameWords) {
  const TempDir folder;
  for (const HostileFile& file : hostile_files()) {
    const std::filesystem::path path = write(folder, "hostile", file.bytes);
    EXPECT_EQ(data_error([&] { read_idx(path); }),
              data_error([&] { parse_idx(file.bytes, path.string()); }));
  }
}

// 8 MiB of zeros shrink to 8 KB: as many bytes as declared are inflated, and no more.
TEST(Idx, InflatesNoMoreThanDeclared) {
  Bytes bomb = idx_file({10}, 0);
  bomb.resize(8 << 20);
  EXPECT_THAT(data_error([&] { parse_idx(gzipped(bomb), "bomb"); }), HasSubstr("but more follow"));
}

TEST(Idx, SaysWhatIsWrongWithAPath) {
  const TempDir folder;
  const auto message = [&](const std::string& name) {
    return data_error([&] { read_idx(folder.path() / name); });
  };
  EXPECT_THAT(message("missing"), AllOf(HasSubstr("missing"), HasSubstr("No such file"),
                                        HasSubstr("check the folder")));
  write(folder, "there.gz", {});
  write(folder, "here", {});
  EXPECT_THAT(message("there"), HasSubstr("\"there.gz\" lies in the same folder"));
  EXPECT_THAT(message("here.gz"), HasSubstr("\"here\" lies in the same folder"));
  EXPECT_THAT(message(""), HasSubstr("is a folder, expected a regular file"));
  EXPECT_THAT(data_error([] { read_idx("/dev/null"); }), HasSubstr("is a device or pipe"));
}

class LabeledImagesFiles : public ::testing::Test {
 protected:
  std::string error(const Bytes& images, const Bytes& labels, std::int64_t num_classes = 10) {
    const auto images_path = write(folder_, "images", images);
    const auto labels_path = write(folder_, "labels", labels);
    return data_error([&] { read_labeled_images(images_path, labels_path, num_classes); });
  }

  TempDir folder_;
};

TEST_F(LabeledImagesFiles, AreReadAsAPair) {
  const LabeledImages pair = read_labeled_images(write(folder_, "i", idx_file({4, 2, 3}, 24)),
                                                 write(folder_, "l", idx_file({4}, 4)), 4);
  EXPECT_THAT(pair.images.shape, ElementsAre(4, 2, 3));
  EXPECT_THAT(pair.labels.values, ElementsAre(0, 1, 2, 3));
}

TEST_F(LabeledImagesFiles, MustBelongTogether) {
  EXPECT_THAT(error(idx_file({4, 2, 3}, 24), idx_file({5}, 5)),
              AllOf(HasSubstr("holds 4 images"), HasSubstr("holds 5 labels")));
  EXPECT_THAT(error(idx_file({4}, 4), idx_file({4, 2, 3}, 24)),
              AllOf(HasSubstr("holds 1 sizes (4), expected 3"), HasSubstr("swapped")));
  EXPECT_THAT(error(idx_file({4, 2, 3}, 24), idx_file({2, 2}, 4)),
              HasSubstr("holds 2 sizes (2 x 2), expected 1"));
}

TEST_F(LabeledImagesFiles, HaveLabelsInRange) {
  EXPECT_THAT(error(idx_file({4, 1, 1}, 4), idx_file({4}, 4), 3),
              HasSubstr("label 3 is 3, expected 0 to 2"));
  EXPECT_EQ(error(idx_file({4, 1, 1}, 4), idx_file({4}, 4), 256), "no error");
  EXPECT_THROW(read_labeled_images("a", "b", 0), ArgumentError);
  EXPECT_THROW(read_labeled_images("a", "b", 257), ArgumentError);
}

}  // namespace
}  // namespace torch_accelerated
