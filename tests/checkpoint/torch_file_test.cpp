// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/torch_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>
#include <functional>
#include <iostream>
#include <limits>
#include <map>
#include <optional>
#include <sstream>

#include "base/text.h"
#include "checkpoint/stored_zip.h"
#include "support/mutations.h"
#include "support/torch_files.h"
#include "torch_accelerated/base/error.h"

extern "C" int fuzz_torch_file(const std::uint8_t* data, std::size_t size);

namespace torch_accelerated {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::golden_file;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::pickled_dict;
using testing::pickled_tensor;
using testing::pickled_text;
using testing::PickledParts;
using testing::torch_archive;

constexpr auto kReadable = {"buffer.pt", "checkpoint.pt", "dtypes.pt",   "mlp.pt",
                            "views.pt",  "protocol4.pt",  "protocol5.pt"};

std::string key_of(std::string_view file) {
  return file == "checkpoint.pt" ? "model_state" : std::string();
}

std::string values(const TorchFile& file, const TorchFileTensor& tensor) {
  std::string bytes(static_cast<std::size_t>(tensor.bytes), '\xAA');
  file.copy(tensor, bytes.data());
  return bytes;
}

std::string hex(const std::string& bytes) {
  std::string text;
  for (char byte : bytes) {
    text += "0123456789abcdef"[static_cast<unsigned char>(byte) >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

// A tensor as the script that wrote the files puts it down.
std::string line(std::string_view name, const TorchFile& file, const TorchFileTensor& tensor) {
  std::string shape;
  for (std::int64_t size : tensor.shape) shape += concat(shape.empty() ? "" : ",", size);
  return concat(name, "\t", key_of(name), "\t", tensor.name, "\t",
                safetensors_dtype_name(tensor.dtype), "\t", shape, "\t", hex(values(file, tensor)));
}

std::string message(const std::string& file, std::string_view key = {}) {
  try {
    const TorchFile read(file, "m.pt", key);
    for (const TorchFileTensor& tensor : read.tensors()) values(read, tensor);
  } catch (const CheckpointError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(TorchFile, GivesTheValuesThatPyTorchWrote) {
  std::istringstream expected(golden_file("tensors.txt"));
  std::map<std::string, std::vector<std::string>, std::less<>> lines;
  for (std::string each; std::getline(expected, each);) {
    lines[each.substr(0, each.find('\t'))].push_back(each);
  }
  EXPECT_EQ(lines.size(), kReadable.size());
  for (std::string_view name : kReadable) {
    const std::string bytes = golden_file(std::string(name));
    const TorchFile file(bytes, std::string(name), key_of(name));
    std::vector<std::string> read;
    for (const TorchFileTensor& tensor : file.tensors()) read.push_back(line(name, file, tensor));
    EXPECT_EQ(read, lines.find(name)->second) << name;
  }
}

TEST(TorchFile, NamesTheDictsToChooseFrom) {
  const std::string bytes = golden_file("checkpoint.pt");
  EXPECT_THAT(message(bytes),
              HasSubstr("it is a dict of dicts, with the tensors in each: 'model_state' (9), "
                        "'optimizer_state' (0); give the key of the one that holds the weights."));
  EXPECT_THAT(message(bytes, "optimizer_state"),
              HasSubstr("its 'optimizer_state' is a dict of dicts, with the tensors in each: "
                        "'state' (0)"));
  EXPECT_THAT(message(bytes, "model"), HasSubstr("it has no 'model', but 'model_state' 'optimiz"));
  EXPECT_THAT(message(bytes, "epoch"), HasSubstr("its 'epoch' is a number, expected a dict"));
  EXPECT_EQ(TorchFile(bytes, "m.pt", "model_state").tensors().size(), 9U);
}

TEST(TorchFile, ListsWhatIsNoTensor) {
  const std::string pickle =
      pickled_dict(pickled_text("epoch") + "K\3" + pickled_text("w") + pickled_tensor() +
                   pickled_text("extra") + "}" + pickled_text("name") + pickled_text("tiny"));
  const std::string bytes = torch_archive(pickle, {std::string(24, 'x')});
  const TorchFile file(bytes, "m.pt");
  ASSERT_EQ(file.tensors().size(), 1U);
  EXPECT_EQ(values(file, file.tensors()[0]), std::string(24, 'x'));
  EXPECT_THAT(file.skipped(), ElementsAre("epoch", "name", "extra"));
}

TEST(TorchFile, ReadsADictOfNothing) {
  const std::string bytes = torch_archive(pickled_dict(""));
  EXPECT_THAT(TorchFile(bytes, "m.pt").tensors(), IsEmpty());
}

TEST(TorchFile, RefusesOtherKindsOfFilesWithWhatToDo) {
  const std::string cure = "; write it again with torch.save(model.state_dict(), path).";
  const auto refused = [&](std::string_view why) { return AllOf(HasSubstr(why), HasSubstr(cure)); };
  EXPECT_THAT(message(golden_file("legacy.pt")), refused("it is in torch's old format"));
  EXPECT_THAT(message(golden_file("script.pt")),
              refused("as the program in a TorchScript archive"));
  for (const char* part : {"m/constants.pkl", "m/code/m.py"}) {
    EXPECT_THAT(message(testing::stored_zip({{"m/data.pkl", ""}, {part, "x"}})),
                refused("it is a TorchScript archive, which holds a program"));
  }
  EXPECT_THAT(message(golden_file("module.pt")),
              HasSubstr("it asks for torch.nn.modules.linear.Linear; only tensors are read: write "
                        "it again with torch.save(model.state_dict(), path)."));
  EXPECT_THAT(message(golden_file("list.pt")), refused("it holds a list, expected a dict"));
  EXPECT_THAT(message("\x80\x04\x95K\1."), refused("it is a plain pickle, which is never read"));
  EXPECT_THAT(message(testing::stored_zip({{"m/a", "x"}})), refused("without a data.pkl"));
  EXPECT_THAT(message(testing::stored_zip({{"a/data.pkl", ""}, {"b/data.pkl", ""}})),
              refused("it holds the pickles 'a/data.pkl' and 'b/data.pkl', expected one"));
  EXPECT_THAT(message(golden_file("conjugate.pt")), HasSubstr("lazy conjugate or negative"));
  EXPECT_THAT(message(golden_file("unchecked.pt")), HasSubstr("set_crc32_options(False)"));
  EXPECT_THAT(message("<html>"), HasSubstr("it begins with '<html>', expected 'PK'"));
  EXPECT_THAT(message(""), HasSubstr("it begins with '', expected 'PK'"));
}

TEST(TorchFile, RefusesOtherByteOrdersAndLaterVersions) {
  EXPECT_THAT(message(torch_archive(pickled_dict(""), {}, "big")),
              HasSubstr("its byte order is 'big', expected 'little'"));
  const auto of_version = [](const std::string& version) {
    return testing::stored_zip({{"m/data.pkl", pickled_dict("")}, {"m/version", version}});
  };
  EXPECT_THAT(message(of_version("11\n")), HasSubstr("its format's version is '11', expected one"));
  EXPECT_THAT(message(of_version("")), HasSubstr("its format's version is ''"));
  EXPECT_EQ(message(of_version("10\n")), "accepted");
  EXPECT_EQ(message(of_version("1")), "accepted");
}

std::string one_tensor(const PickledParts& parts, std::size_t storage_bytes = 24) {
  return torch_archive(pickled_dict(pickled_text("w") + pickled_tensor(parts)),
                       {std::string(storage_bytes, 'x')});
}

TEST(TorchFile, RefusesATensorBeyondItsStorage) {
  constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();
  const auto shaped = [](std::int64_t offset, std::vector<std::int64_t> sizes,
                         std::vector<std::int64_t> strides) {
    PickledParts parts;
    parts.offset = offset;
    parts.sizes = std::move(sizes);
    parts.strides = std::move(strides);
    return message(one_tensor(parts));
  };
  EXPECT_EQ(shaped(0, {2, 3}, {3, 1}), "accepted");
  EXPECT_EQ(shaped(1, {2, 2}, {3, 1}), "accepted");
  EXPECT_EQ(shaped(5, {1}, {kHuge}), "accepted") << "a stride that is never taken";
  EXPECT_EQ(shaped(kHuge, {0, 3}, {kHuge, kHuge}), "accepted") << "no values";
  EXPECT_EQ(shaped(5, {4, 4}, {0, 0}), "accepted") << "one value, repeated";
  const auto beyond = AllOf(HasSubstr("tensor 'w': its sizes and strides from "),
                            HasSubstr(" lead beyond the 24 bytes of its storage"));
  EXPECT_THAT(shaped(1, {2, 3}, {3, 1}), beyond);
  EXPECT_THAT(shaped(0, {7}, {1}), beyond);
  EXPECT_THAT(shaped(0, {2, 3}, {4, 1}), beyond);
  EXPECT_THAT(shaped(6, {}, {}), beyond);
  EXPECT_THAT(shaped(kHuge, {1}, {1}), beyond);
  EXPECT_THAT(shaped(0, {2, 2}, {kHuge, kHuge}), beyond);
  EXPECT_THAT(shaped(0, {3}, {kHuge}), beyond);
  EXPECT_THAT(shaped(0, {kHuge}, {1}), beyond);
  EXPECT_THAT(shaped(0, {kHuge, kHuge}, {0, 0}), beyond);
}

TEST(TorchFile, RefusesAStorageOfAnotherLengthOrNone) {
  PickledParts parts;
  EXPECT_THAT(message(one_tensor(parts, 20)),
              HasSubstr("tensor 'w': its storage '0' has 20 bytes in the archive, expected 24"));
  EXPECT_THAT(message(one_tensor(parts, 28)), HasSubstr("has 28 bytes in the archive, expected"));
  parts.key = "../data.pkl";
  EXPECT_THAT(message(one_tensor(parts)), HasSubstr("its storage '../data.pkl' has 0 bytes"));
}

TEST(TorchFile, WritesTrueAs1) {
  PickledParts parts;
  parts.storage_type = "torch\nBoolStorage\n";
  const std::string bytes =
      torch_archive(pickled_dict(pickled_text("mask") + pickled_tensor(parts)),
                    {std::string("\0\1\2\0\x80\xFF", 6)});
  const TorchFile file(bytes, "m.pt");
  EXPECT_EQ(hex(values(file, file.tensors()[0])), "000101000101");
}

TEST(TorchFile, NoticesADamagedStorageWhenItIsCopied) {
  std::string bytes = one_tensor({});
  bytes[bytes.find("xxxx") + 5] ^= 1;
  const TorchFile file(bytes, "m.pt");
  std::string to(24, '?');
  for (int i = 0; i < 2; ++i) {
    EXPECT_THROW(file.copy(file.tensors()[0], to.data()), CheckpointError);
    EXPECT_EQ(to, std::string(24, '?'));
  }
}

TEST(TorchFile, CopiesItsOwnTensorsOnly) {
  const std::string bytes = one_tensor({});
  const TorchFile file(bytes, "m.pt");
  std::string to(24, '?');
  const auto forged = [&](const std::function<void(TorchFileTensor&)>& change) {
    TorchFileTensor tensor = file.tensors()[0];
    change(tensor);
    EXPECT_THROW(file.copy(tensor, to.data()), ArgumentError);
  };
  forged([](TorchFileTensor& tensor) { tensor.offset = 1; });
  forged([](TorchFileTensor& tensor) { tensor.storage = 100; });
  forged([](TorchFileTensor& tensor) { tensor.shape = {2, 2}; });
  forged([](TorchFileTensor& tensor) { tensor.strides = {1}; });
  forged([](TorchFileTensor& tensor) { tensor.strides = {-3, 1}; });
  forged([](TorchFileTensor& tensor) { tensor.dtype = SafetensorsDtype::kF64; });
  forged([](TorchFileTensor& tensor) { tensor.dtype = SafetensorsDtype::kF4; });
  EXPECT_EQ(to, std::string(24, '?'));
}

TEST(TorchFile, IsRefusedAtEveryTruncation) {
  for (std::string_view name : kReadable) {
    const std::string file = golden_file(std::string(name));
    for (std::size_t size = 0; size < file.size(); ++size) {
      EXPECT_THROW(TorchFile(std::string_view(file).substr(0, size), "cut", key_of(name)),
                   CheckpointError)
          << name << " " << size;
    }
  }
}

// All that a reader is told; nothing where the file is refused.
std::optional<std::vector<std::string>> contents(std::string_view bytes, std::string_view name) {
  try {
    const TorchFile file(bytes, "changed", key_of(name));
    std::vector<std::string> result = file.skipped();
    for (const TorchFileTensor& tensor : file.tensors()) {
      result.push_back(concat(line(name, file, tensor), tensor.requires_grad));
    }
    return result;
  } catch (const CheckpointError&) {
    return std::nullopt;
  }
}

// A flip in padding, in a time or in an entry that isn't read changes nothing.
TEST(TorchFile, EverySingleFlippedBitIsRefusedOrChangesNothing) {
  for (std::string_view name : {"buffer.pt", "views.pt"}) {
    std::string file = golden_file(std::string(name));
    const auto right = contents(file, name);
    ASSERT_TRUE(right);
    std::size_t refused = 0;
    for (std::size_t bit = 0; bit < 8 * file.size(); ++bit) {
      file[bit / 8] = static_cast<char>(file[bit / 8] ^ (1 << bit % 8));
      const auto read = contents(file, name);
      refused += read ? 0 : 1;
      EXPECT_TRUE(!read || read == right) << name << " bit " << bit;
      file[bit / 8] = static_cast<char>(file[bit / 8] ^ (1 << bit % 8));
    }
    EXPECT_GT(refused, 8 * 1000U) << name;  // the pickle and all that makes up the directory
    if (testing::is_long_run()) {
      std::cout << name << ": of " << 8 * file.size() << " flips " << refused << " refused\n";
    }
  }
}

// Bytes as zip and pickle have them: instructions, numbers at an edge.
void mutate_binary(std::string& bytes, RandomStream& stream) {
  constexpr std::string_view kOpcodes = "().GJKMNQRX]abcehjqrstu}\x80\x85\x86\x87\x88\x89\x8A";
  if (bytes.size() < 16 || stream.below(3) == 0) return testing::mutate_text(bytes, stream);
  const std::size_t at = stream.below(bytes.size() - 8);
  switch (stream.below(4)) {
    case 0:
      bytes[at] = kOpcodes[stream.below(kOpcodes.size())];
      break;
    case 1:
      bytes.insert(at, 1, kOpcodes[stream.below(kOpcodes.size())]);
      break;
    case 2:
      bytes[at] = static_cast<char>(bytes[at] + (stream.below(2) == 0 ? 1 : -1));
      break;
    default:
      testing::overwrite(bytes, at, std::uint64_t{0} - (stream.below(2) << stream.below(64)),
                         std::size_t{1} << stream.below(4));
  }
}

// The same file around a changed pickle, whose checksum is right.
std::string with_mutated_pickle(const std::string& file, RandomStream& stream) {
  const StoredZip zip(file, "good");
  std::vector<testing::ZipPart> parts;
  for (const StoredZipEntry& entry : zip.entries()) {
    parts.push_back({std::string(entry.name), std::string(entry.bytes)});
    if (!entry.name.ends_with("/data.pkl")) continue;
    const std::uint64_t changes = 1 + stream.below(4);
    for (std::uint64_t i = 0; i < changes; ++i) mutate_binary(parts.back().bytes, stream);
  }
  return testing::stored_zip(parts);
}

// Of this process, whatever else the machine does.
double processor_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

// No crash, no other error than DataError, no other numbers, no long time, little memory.
TEST(TorchFile, SurvivesMutations) {
  const std::uint64_t seed = testing::mutation_seed();
  const std::uint64_t rounds = testing::is_long_run() ? 1'000'000 : 20'000;
  std::vector<std::string> files;
  for (std::string_view name : kReadable) files.push_back(golden_file(std::string(name)));
  const std::int64_t peak_before = testing::peak_memory_kib();
  const double begin = processor_seconds();
  double longest = 0;
  std::uint64_t unchanged = 0;
  for (std::uint64_t round = 0; round < rounds; ++round) {
    RandomStream stream(seed, 0, round);
    const std::size_t which = stream.below(files.size());
    std::string bytes = files[which];
    const bool is_inner = round % 2 == 0;
    if (is_inner) {
      bytes = with_mutated_pickle(bytes, stream);
    } else {
      mutate_binary(bytes, stream);
    }
    const double before = processor_seconds();
    fuzz_torch_file(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
    longest = std::max(longest, processor_seconds() - before);
    if (is_inner) continue;
    const std::string_view name = kReadable.begin()[which];
    const auto read = contents(bytes, name);
    unchanged += read ? 1 : 0;
    EXPECT_TRUE(!read || read == contents(files[which], name)) << "round " << round;
  }
  const std::int64_t grown_kib = testing::peak_memory_kib() - peak_before;
  if (!testing::is_sanitised()) {
    EXPECT_LT(grown_kib, 16 * 1024);
    EXPECT_LT(longest, 1.0);
  }
  EXPECT_GT(unchanged, 0U);
  if (testing::is_long_run()) {
    std::cout << "torch.save mutations: seed " << seed << ", " << rounds << " files, "
              << processor_seconds() - begin << " s, the longest " << longest << " s, " << unchanged
              << " read as before, peak memory grew by " << grown_kib << " KiB\n";
  }
}

}  // namespace
}  // namespace torch_accelerated
