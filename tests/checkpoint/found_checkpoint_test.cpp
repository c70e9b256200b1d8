// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/found_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/crc32c.h"
#include "support/checkpoint_folders.h"
#include "support/file_bytes.h"
#include "support/temp_dir.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

using std::filesystem::path;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::save_checkpoint;
using testing::TempDir;
using testing::write_bytes;

TEST(CheckFiles, NamesTheFileAndWhatIsWrongWithIt) {
  const TempDir temp;
  CheckpointFolder folder(temp.path());
  folder.lock();
  const auto checkpoint = save_checkpoint(folder, 1, "weights");
  const path file = checkpoint.path / "model.safetensors";
  const auto check = [&](bool contents) {
    try {
      check_files(checkpoint, contents);
    } catch (const CheckpointError& error) {
      return std::string(error.what());
    }
    return std::string("nothing was thrown");
  };
  write_bytes(checkpoint.path / "foreign", "is not looked at");
  EXPECT_EQ(check(true), "nothing was thrown");
  write_bytes(file, "weighty");
  EXPECT_EQ(check(false), "nothing was thrown");
  EXPECT_THAT(check(true), AllOf(HasSubstr("file 'model.safetensors' has the CRC32C"),
                                 HasSubstr(checkpoint.path.string())));
  write_bytes(file, "weight");
  for (bool contents : {false, true}) {
    EXPECT_THAT(check(contents),
                HasSubstr("file 'model.safetensors' has 6 bytes, its manifest says 7"));
  }
  std::filesystem::remove(file);
  EXPECT_THAT(check(false), HasSubstr("file 'model.safetensors' is missing"));
  std::filesystem::create_directory(file);
  EXPECT_THAT(check(false), HasSubstr("'model.safetensors' can't be checked"));
  std::filesystem::remove(file);
  ASSERT_EQ(::mkfifo(file.c_str(), 0600), 0);
  EXPECT_THAT(check(true), HasSubstr("no regular file"));  // and doesn't wait for a writer
}

TEST(SummedFile, SumsAFileOfSeveralBlocks) {
  const TempDir temp;
  std::string bytes((std::size_t{1} << 20) + 9, 'x');
  bytes += "123456789";
  write_bytes(temp.path() / "large", bytes);
  write_bytes(temp.path() / "check", "123456789");
  EXPECT_EQ(summed_file(temp.path() / "check"),
            (ManifestFile{"check", 9, 0xE3069283}));  // RFC 3720
  EXPECT_EQ(summed_file(temp.path() / "large"),
            (ManifestFile{"large", bytes.size(), crc32c(bytes.data(), bytes.size())}));
  EXPECT_THROW(summed_file(temp.path() / "none"), FileError);
}

}  // namespace
}  // namespace torch_accelerated
