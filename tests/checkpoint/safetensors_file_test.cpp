// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/safetensors_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "base/crc32c.h"
#include "base/text.h"
#include "checkpoint/safetensors_file_writer.h"
#include "checkpoint/safetensors_text.h"
#include "support/faulty_io.h"
#include "support/file_bytes.h"
#include "support/safetensors_files.h"
#include "support/safetensors_parts.h"
#include "support/temp_dir.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

using ::testing::AllOf;
using testing::FaultyIo;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::names_in;
using testing::parts_of_all_kinds;
using testing::read_bytes;
using testing::SafetensorsParts;
using testing::TempDir;
using testing::write_bytes;

std::string copied(const SafetensorsFile& file, const SafetensorsEntry& tensor) {
  std::string values(tensor.end - tensor.begin, '\0');
  file.copy(tensor, values.data());
  return values;
}

// Everything that a reader of the whole file does.
void read_all(const std::string& path) {
  const SafetensorsFile file(path);
  for (const SafetensorsEntry& tensor : file.tensors()) copied(file, tensor);
}

template <class Expected, class Action>
std::string message(Action action) {
  try {
    action();
  } catch (const Expected& error) {
    return error.what();
  }
  return "accepted";
}

void expect_same(const SafetensorsFile& file, const SafetensorsParts& written) {
  ASSERT_EQ(file.tensors().size(), written.parts().size());
  for (std::size_t i = 0; i < written.parts().size(); ++i) {
    const SafetensorsPart& part = written.parts()[i];
    const SafetensorsEntry* tensor = file.find(part.name);
    ASSERT_NE(tensor, nullptr) << part.name;
    EXPECT_EQ(tensor->dtype, part.dtype) << part.name;
    EXPECT_EQ(tensor->shape, part.shape) << part.name;
    EXPECT_EQ(tensor->crc, crc32c(written.values(i).data(), written.values(i).size())) << part.name;
    EXPECT_EQ(file.bytes_of(*tensor), written.values(i)) << part.name;
    EXPECT_EQ(copied(file, *tensor), written.values(i)) << part.name;
    file.check(*tensor);
  }
}

void expect_describes(const WrittenFile& written, const std::string& path) {
  const std::string bytes = read_bytes(path);
  EXPECT_EQ(written, (WrittenFile{bytes.size(), crc32c(bytes.data(), bytes.size())}));
}

TEST(SafetensorsFile, GivesBackEveryTypeAndShape) {
  const TempDir folder;
  const std::string path = folder.path() / "all.safetensors";
  const SafetensorsParts parts = parts_of_all_kinds();
  const WrittenFile written =
      write_safetensors_file(system_io(), path, parts.parts(), {{"format", "pt"}});
  expect_describes(written, path);
  const SafetensorsFile file(path);
  expect_same(file, parts);
  EXPECT_EQ(file.metadata(), (SafetensorsMetadata{{"format", "pt"}}));
  EXPECT_EQ(file.path(), path);
  EXPECT_EQ(file.find("another"), nullptr);
  EXPECT_EQ(file.find("zzz"), nullptr);
}

TEST(SafetensorsFile, GivesBackAFileOfNoTensors) {
  const TempDir folder;
  const std::string path = folder.path() / "none.safetensors";
  expect_describes(write_safetensors_file(system_io(), path, {}), path);
  EXPECT_THAT(SafetensorsFile(path).tensors(), IsEmpty());
}

TEST(SafetensorsFile, GivesBackTensorsLargerThanAnyPieceAndTheSmallOnesBetween) {
  const TempDir folder;
  const std::string path = folder.path() / "large.safetensors";
  SafetensorsParts parts;
  parts.add("large", SafetensorsDtype::kF32, {700'001});
  parts.add("small", SafetensorsDtype::kF32, {3});
  parts.add("one piece", SafetensorsDtype::kI32, {1 << 16});
  parts.add("bytes", SafetensorsDtype::kU8, {2'500'003});
  for (const std::size_t most : {std::size_t{1} << 40, std::size_t{100'003}}) {
    FaultyIo io;
    io.write_at_most(most);
    expect_describes(write_safetensors_file(io, path, parts.parts()), path);
    expect_same(SafetensorsFile(path), parts);
    std::filesystem::remove(path);
  }
}

TEST(SafetensorsFile, GathersSmallTensorsIntoFewWrites) {
  const TempDir folder;
  const std::string path = folder.path() / "many.safetensors";
  SafetensorsParts parts;
  for (int i = 0; i < 10'000; ++i) {
    parts.add(concat("layer.", i, ".bias"), SafetensorsDtype::kF32, {25});
  }
  FaultyIo io;
  expect_describes(write_safetensors_file(io, path, parts.parts()), path);
  EXPECT_LT(io.operations(), 20U);  // a million bytes
  expect_same(SafetensorsFile(path), parts);
}

TEST(SafetensorsFile, IsTheSameWhereWritesAreShortOrInterrupted) {
  const TempDir folder;
  const SafetensorsParts parts = parts_of_all_kinds();
  const WrittenFile whole =
      write_safetensors_file(system_io(), folder.path() / "whole", parts.parts());
  for (const std::size_t most : {1U, 7U, 4096U}) {
    FaultyIo io;
    io.write_at_most(most);
    io.fail_at(2, EINTR);
    const std::string path = folder.path() / concat("short", most);
    EXPECT_EQ(write_safetensors_file(io, path, parts.parts()), whole);
    EXPECT_EQ(read_bytes(path), read_bytes(folder.path() / "whole"));
  }
}

TEST(SafetensorsFile, IsNotThereWhereAnyOperationOfItsWritingFails) {
  const SafetensorsParts parts = parts_of_all_kinds();
  const auto write = [&](FileIo& io, const TempDir& folder) {
    write_safetensors_file(io, folder.path() / "new", parts.parts());
  };
  const TempDir unused;
  FaultyIo counted;
  write(counted, unused);
  ASSERT_EQ(counted.operations(), 5U);  // open, values, header, sync, close
  for (std::size_t k = 1; k <= counted.operations(); ++k) {
    for (const int error : {ENOSPC, EIO, EDQUOT, EINTR, EROFS}) {
      const TempDir folder;
      FaultyIo io;
      io.fail_at(k, error);
      if (error == EINTR && (k == 2 || k == 3)) {
        EXPECT_NO_THROW(write(io, folder));
        EXPECT_NO_THROW(read_all(folder.path() / "new"));
      } else {
        EXPECT_THROW(write(io, folder), FileError) << k << ": " << error;
        EXPECT_THAT(names_in(folder.path()), IsEmpty()) << k << ": " << error;
      }
    }
  }
}

TEST(SafetensorsFile, IsNotBegunWithWhatAReaderWouldRefuse) {
  const TempDir folder;
  const std::string path = folder.path() / "new";
  const float value = 1;
  const auto refused = [&](const std::vector<SafetensorsPart>& parts,
                           const SafetensorsMetadata& metadata = {}) {
    return message<ArgumentError>(
        [&] { write_safetensors_file(system_io(), path, parts, metadata); });
  };
  constexpr auto kF32 = SafetensorsDtype::kF32;
  EXPECT_THAT(refused({{"a", kF32, {1}, &value}, {"a", kF32, {1}, &value}}), HasSubstr("twice"));
  EXPECT_THAT(refused({{"a", kF32, {-1}, &value}}), HasSubstr("'a'"));
  EXPECT_THAT(refused({{"a", kF32, {1}, nullptr}}), AllOf(HasSubstr("'a'"), HasSubstr("null")));
  EXPECT_THAT(refused({{"\xFF", kF32, {1}, &value}}), HasSubstr("JSON"));
  EXPECT_THAT(refused({}, {{"crc32c", "x"}}), HasSubstr("checksums"));
  EXPECT_THAT(names_in(folder.path()), IsEmpty());
}

TEST(SafetensorsFile, IsRefusedWithAnyBitFlipped) {
  const TempDir folder;
  const std::string path = folder.path() / "flipped.safetensors";
  SafetensorsParts parts;
  parts.add("layer.weight", SafetensorsDtype::kF32, {16, 8});
  parts.add("layer.bias", SafetensorsDtype::kBf16, {8});
  parts.add("mask", SafetensorsDtype::kBool, {3});
  write_safetensors_file(system_io(), path, parts.parts(), {{"format", "pt"}});
  read_all(path);
  std::string bytes = read_bytes(path);
  ASSERT_GT(bytes.size(), 700U);
  const int file = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  ASSERT_GE(file, 0);
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    const auto at = static_cast<off_t>(bit / 8);
    const char flipped = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    ASSERT_EQ(::pwrite(file, &flipped, 1, at), 1);
    EXPECT_THROW(read_all(path), DataError) << "bit " << bit;
    ASSERT_EQ(::pwrite(file, &bytes[bit / 8], 1, at), 1);
  }
  ::close(file);
  read_all(path);
}

TEST(SafetensorsFile, IsRefusedAtEveryTruncationAndWithBytesBehind) {
  const TempDir folder;
  const std::string path = folder.path() / "cut.safetensors";
  const SafetensorsParts parts = parts_of_all_kinds();
  const WrittenFile written = write_safetensors_file(system_io(), path, parts.parts());
  std::filesystem::resize_file(path, written.bytes + 1);
  EXPECT_THROW(SafetensorsFile{path}, DataError);
  for (std::uint64_t size = written.bytes; size > 0; --size) {
    std::filesystem::resize_file(path, size - 1);
    EXPECT_THROW(SafetensorsFile{path}, DataError) << size - 1;
  }
}

TEST(SafetensorsFile, NamesTheFileTheTensorAndBothChecksumsOfDamagedBytes) {
  const TempDir folder;
  const std::string path = folder.path() / "damaged.safetensors";
  SafetensorsParts parts;
  parts.add("x", SafetensorsDtype::kU8, {3'000'000});
  parts.add("y", SafetensorsDtype::kU8, {5});
  write_safetensors_file(system_io(), path, parts.parts());
  std::string bytes = read_bytes(path);
  bytes[bytes.size() - 6] ^= 4;  // the last one of x
  write_bytes(path, bytes);
  const SafetensorsFile file(path);
  const SafetensorsEntry& tensor = *file.find("x");
  const std::uint32_t found = crc32c(file.bytes_of(tensor).data(), 3'000'000);
  const std::string expected = concat(
      "safetensors file '", path, "': the bytes of tensor 'x' have the CRC32C ", crc_text(found),
      ", ", crc_text(*tensor.crc), " was written; the file is damaged; take another copy");
  EXPECT_EQ(message<CheckpointError>([&] { copied(file, tensor); }), expected);
  EXPECT_EQ(message<CheckpointError>([&] { file.check(tensor); }), expected);
  EXPECT_EQ(copied(file, *file.find("y")), parts.values(1));
}

TEST(SafetensorsFile, ReadsAFileOfPythonsThatCarriesNoChecksums) {
  const TempDir folder;
  const std::string path = folder.path() / "python.safetensors";
  write_bytes(path, testing::python_safetensors_file());
  const SafetensorsFile file(path);
  const SafetensorsEntry& mask = *file.find("mask");
  EXPECT_FALSE(mask.crc);
  file.check(mask);
  EXPECT_EQ(copied(file, mask), std::string("\1\0\1", 3));
}

TEST(SafetensorsFile, RefusesAnotherFilesTensor) {
  const TempDir folder;
  write_bytes(folder.path() / "a", testing::safetensors_file("{}"));
  const SafetensorsFile file(folder.path() / "a");
  SafetensorsEntry tensor;
  tensor.name = "x";
  tensor.end = 1;
  EXPECT_THAT(message<ArgumentError>([&] { static_cast<void>(file.bytes_of(tensor)); }),
              HasSubstr("give a tensor of this file"));
  tensor.begin = 2;
  EXPECT_THROW(static_cast<void>(file.bytes_of(tensor)), ArgumentError);
}

TEST(SafetensorsFile, KeepsItsTensorsWhenItIsMoved) {
  const TempDir folder;
  const std::string path = folder.path() / "moved.safetensors";
  const SafetensorsParts parts = parts_of_all_kinds();
  write_safetensors_file(system_io(), path, parts.parts());
  SafetensorsFile first(path);
  const SafetensorsEntry* tensor = first.find("number");
  const std::string_view values = first.bytes_of(*tensor);
  SafetensorsFile second(std::move(first));
  EXPECT_EQ(second.find("number"), tensor);
  EXPECT_EQ(second.bytes_of(*tensor).data(), values.data());
  expect_same(second, parts);
}

TEST(MappedFile, ReadsAFileOrALinkToOne) {
  const TempDir folder;
  write_bytes(folder.path() / "file", "bytes");
  std::filesystem::create_symlink("file", folder.path() / "link");
  EXPECT_EQ(MappedFile(folder.path() / "file").bytes(), "bytes");
  EXPECT_EQ(MappedFile(folder.path() / "link").bytes(), "bytes");
}

TEST(MappedFile, MayBeEmpty) {
  const TempDir folder;
  write_bytes(folder.path() / "empty", "");
  const MappedFile file(folder.path() / "empty");
  EXPECT_TRUE(file.bytes().empty());
  file.read_ahead(file.bytes());
}

TEST(MappedFile, RefusesWhatIsNoRegularFile) {
  const TempDir folder;
  const std::string pipe = folder.path() / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const auto refused = [](const std::string& path) {
    return message<FileError>([&] { MappedFile file(path); });
  };
  EXPECT_THAT(refused(folder.path()), AllOf(HasSubstr(folder.path()), HasSubstr("a folder")));
  EXPECT_THAT(refused(pipe), AllOf(HasSubstr(pipe), HasSubstr("a device or pipe")));
  EXPECT_THAT(refused("/dev/zero"), HasSubstr("a device or pipe"));
  EXPECT_THAT(refused(folder.path() / "nothing"), HasSubstr("No such file or directory"));
}

TEST(MappedFile, TellsThatItsFileBecameShorterRatherThanEndTheProcess) {
  const TempDir folder;
  const std::string path = folder.path() / "shorter";
  write_bytes(path, std::string(100'000, 'x'));
  const MappedFile file(path);
  std::filesystem::resize_file(path, 5);
  EXPECT_THAT(message<FileError>([&] { file.read_ahead(file.bytes()); }),
              AllOf(HasSubstr(path), HasSubstr("shorter")));
}

TEST(MappedFile, IsTheNewOnesAfterAMove) {
  const TempDir folder;
  write_bytes(folder.path() / "a", "first");
  write_bytes(folder.path() / "b", "second");
  MappedFile a(folder.path() / "a");
  MappedFile b(folder.path() / "b");
  a = std::move(b);
  EXPECT_EQ(a.bytes(), "second");
  EXPECT_EQ(a.path(), (folder.path() / "b").string());
}

}  // namespace
}  // namespace torch_accelerated
