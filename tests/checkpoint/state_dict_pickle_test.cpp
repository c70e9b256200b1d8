// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/state_dict_pickle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <ctime>
#include <filesystem>
#include <functional>
#include <limits>

#include "base/text.h"
#include "checkpoint/pickle_machine.h"
#include "checkpoint/stored_zip.h"
#include "support/mutations.h"
#include "support/temp_dir.h"
#include "support/torch_files.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::pickled_dict;
using testing::pickled_tensor;
using testing::pickled_text;
using testing::PickledParts;
using namespace std::string_literals;

StateDictPickle read(const std::string& pickle, std::string_view key = {}) {
  return read_state_dict_pickle(pickle, "m.pt", key);
}

std::string message(const std::string& pickle, std::string_view key = {}) {
  try {
    read(pickle, key);
  } catch (const CheckpointError& error) {
    return error.what();
  }
  return "accepted";
}

// The pickle of a file that real PyTorch wrote.
StateDictPickle read_golden(const std::string& name, std::string_view key = {}) {
  const std::string file = testing::golden_file(name + ".pt");
  const StoredZip zip(file, name);
  const StoredZipEntry* pickle = zip.find(name + "/data.pkl");
  return read_state_dict_pickle(pickle->bytes, name, key);
}

PickledTensor float_tensor(std::string name, std::vector<std::int64_t> shape,
                           std::vector<std::int64_t> strides, std::string storage,
                           std::uint64_t bytes) {
  return {std::move(name),
          SafetensorsDtype::kF32,
          std::move(shape),
          std::move(strides),
          std::move(storage),
          bytes,
          0,
          false};
}

TEST(StateDictPickle, ReadsTheSameOfEachProtocol) {
  const std::vector<PickledTensor> tensors{float_tensor("weight", {4, 3}, {3, 1}, "0", 48),
                                           float_tensor("bias", {4}, {1}, "1", 16)};
  for (const char* name : {"protocol4", "protocol5"}) {
    EXPECT_EQ(read_golden(name), (StateDictPickle{tensors, {}, {}})) << name;
  }
  EXPECT_EQ(read_golden("mlp").tensors.front(), float_tensor("0.weight", {4, 3}, {3, 1}, "0", 48));
}

TEST(StateDictPickle, KeepsStridesOffsetsAndSharedStorages) {
  const std::vector<PickledTensor> tensors = read_golden("views").tensors;
  const auto named = [&](std::string_view name) {
    for (const PickledTensor& tensor : tensors) {
      if (tensor.name == name) return tensor;
    }
    return PickledTensor{};
  };
  EXPECT_THAT(named("transposed").strides, ElementsAre(1, 12, 4));
  EXPECT_THAT(named("sliced").shape, ElementsAre(1, 2, 2));
  EXPECT_THAT(named("sliced").strides, ElementsAre(12, 4, 2));
  EXPECT_EQ(named("sliced").offset, 13U);
  EXPECT_EQ(named("sliced").storage, named("transposed").storage);
  EXPECT_THAT(named("expanded").strides, ElementsAre(1, 0));
  EXPECT_THAT(named("scalar").shape, IsEmpty());
  EXPECT_EQ(named("scalar").storage_bytes, 8U);
  EXPECT_THAT(named("empty").shape, ElementsAre(2, 0, 3));
  EXPECT_EQ(named("encoder.weight").storage, named("decoder.weight").storage);
  EXPECT_TRUE(named("encoder.weight").requires_grad);
  EXPECT_FALSE(named("column").requires_grad);
}

TEST(StateDictPickle, TellsWhatElseIsInADict) {
  const StateDictPickle dict = read_golden("checkpoint");
  ASSERT_EQ(dict.tensors.size(), 1U);
  EXPECT_EQ(dict.tensors[0].name, "best");
  EXPECT_THAT(dict.dicts,
              ElementsAre(PickledDict{"model_state", 9}, PickledDict{"optimizer_state", 0}));
  EXPECT_THAT(dict.skipped, ElementsAre("epoch", "loss", "seed", "name", "none", "flags"));
  EXPECT_EQ(read_golden("checkpoint", "model_state").tensors.size(), 9U);
  EXPECT_THAT(read_golden("checkpoint", "optimizer_state").skipped, ElementsAre("param_groups"));
}

TEST(StateDictPickle, RefusesAKeyThatIsNoDictOfTensors) {
  const std::string pickle = pickled_dict(pickled_text("epoch") + "K\3" + pickled_text("model") +
                                          "}" + pickled_text("a\nb") + "N" + "K\5N");
  EXPECT_THAT(message(pickle, "epoch"), HasSubstr("its 'epoch' is a number, expected a dict"));
  EXPECT_THAT(message(pickle, "ema"), HasSubstr("no 'ema', but 'epoch' 'model' 'a?b' '5'; give"));
  EXPECT_EQ(message(pickle, "model"), "accepted");
  EXPECT_THAT(message(pickled_dict(""), "ema"), HasSubstr("it has no 'ema', but nothing; give"));
}

TEST(StateDictPickle, ReadsEverySizeOfNumber) {
  PickledParts parts;
  parts.offset = 0;
  std::string pickle = pickled_tensor(parts);
  const std::string eight = testing::pickled_number(6);
  const std::string huge = "\x8A\x09\1\1\1\1\1\1\1\1\1"s;
  for (const std::string& six : {"K\6"s, "M\6\0"s, "J\6\0\0\0"s, "\x8A\1\6"s, "\x8A\2\6\0"s}) {
    std::string with = pickle;
    with.replace(with.find(eight), eight.size(), six);
    const StateDictPickle dict = read(pickled_dict(pickled_text("w") + with));
    ASSERT_EQ(dict.tensors.size(), 1U);
    EXPECT_EQ(dict.tensors[0].storage_bytes, 24U);
  }
  for (const std::string& no :
       {"J\xFF\xFF\xFF\xFF"s, "\x8A\1\xFF"s, "\x8A\2\0\x80"s, huge, "G\0\0\0\0\0\0\0\0"s}) {
    std::string with = pickle;
    with.replace(with.find(eight), eight.size(), no);
    EXPECT_THAT(message(pickled_dict(pickled_text("w") + with)),
                HasSubstr("its type, key, device and length >= 0"));
  }
  EXPECT_THAT(read(pickled_dict(pickled_text("none") + "\x8A"s + '\0')).skipped,
              ElementsAre("none"));
}

struct Hostile {
  std::string pickle;
  std::string_view words;
};

std::vector<Hostile> programs() {
  const auto global = [](std::string_view name) { return concat("\x80\x02", "c", name, "\n"); };
  const std::string command = pickled_text("touch marker") + "\x85R.";
  return {
      {global("posix\nsystem") + command,
       "offset 2 of its pickle: it asks for posix.system; only tensors are read: write it again "
       "with torch.save(model.state_dict(), path)."},
      {global("os\nsystem") + command, "it asks for os.system; only tensors are read"},
      {global("builtins\neval") + command, "it asks for builtins.eval; only"},
      {global("torch\nload") + command, "it asks for torch.load; only"},
      {global("torch._utils\n_rebuild_tensor_v2.x") + command, "_rebuild_tensor_v2.x; only"},
      {global("__main__\nNet") + ")\x81.", "it asks for __main__.Net; only tensors are read"},
      {global("torch._utils\n_rebuild_sparse_tensor") + ".", "torch._utils._rebuild_sparse_tensor"},
      {"\x80\x04" + pickled_text("posix") + pickled_text("system") + "\x93" + command,
       "it asks for posix.system; only tensors are read"},
      {"\x80\x02(" + pickled_text("touch marker") + "iposix\nsystem\n.", "the instruction INST;"},
      {"\x80\x02}\x81.", "the instruction NEWOBJ; only tensors are read"},
      {"\x80\x02}\x92.", "the instruction NEWOBJ_EX; only tensors are read"},
      {"\x80\x02\x82\x01.", "the instruction EXT1; only tensors are read"},
      {"\x80\x02S'x'\n.", "the instruction STRING; only tensors are read"},
      {"\x80\x02\xFF.", "the instruction number 255; only tensors are read"},
      {"\x80\x02}}R.", "it calls a dict with a dict, expected a function that makes a tensor"},
      {global("collections\nOrderedDict") + "]\x85R.", "an OrderedDict is made from arguments"},
      {global("torch\nFloatStorage") + ")R.", "a storage type or dtype is called"},
      {global("collections\nOrderedDict") + "}b.",
       "something is put into a name of Python's, expected a dict"},
      {"\x80\x02}Nb.", "an object's state is None, expected a dict"},
      {global(std::string(300, 'm')), "a name has no end within 256 bytes"},
  };
}

std::string with_tensor(PickledParts parts) {
  return pickled_dict(pickled_text("w") + pickled_tensor(parts));
}

PickledParts parts_with(const std::function<void(PickledParts&)>& change) {
  PickledParts parts;
  change(parts);
  return parts;
}

std::vector<Hostile> wrong_tensors() {
  const auto with = [](const std::function<void(PickledParts&)>& change) {
    return with_tensor(parts_with(change));
  };
  constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();
  const std::string conjugate = "}" + pickled_text("conj") + "\x88s";
  return {
      {with([](auto& p) { p.sizes = {2}; }), "sizes or strides are not two tuples of as many"},
      {with([](auto& p) { p.sizes = {-2, 3}; }), "sizes or strides are not two tuples"},
      {with([](auto& p) { p.strides = {3, -1}; }), "sizes or strides are not two tuples"},
      {with([](auto& p) { p.sizes = p.strides = std::vector<std::int64_t>(17, 1); }),
       "whole numbers >= 0, at most 16"},
      {with([](auto& p) { p.offset = -1; }), "a tensor has no storage or no offset in it >= 0"},
      {with([](auto& p) { p.length = -1; }), "its type, key, device and length >= 0"},
      {with([](auto& p) { p.length = kHuge; }), "has 9223372036854775807 values, expected fewer"},
      {with([](auto& p) { p.storage_type = "torch\nuint16\n"; }), "a persistent id is not 'stor"},
      {with([](auto& p) { p.storage_type = "torch\nComplexDoubleStorage\n"; }),
       "it asks for torch.ComplexDoubleStorage"},
      {with([](auto& p) { p.storage_type = "torch.storage\nUntypedStorage\n"; }),
       "a tensor's storage doesn't fit the way it is made"},
      {with([](auto& p) { p.hooks = "N"; }), "has hooks, which are never called"},
      {with([](auto& p) { p.hooks = "}" + pickled_text("h") + "Ns"; }), "has hooks, which are"},
      {with([&](auto& p) { p.rest = conjugate; }), "marked as a lazy conjugate or negative"},
      {with([](auto& p) { p.rest = "NN"; }), "made from 8 arguments, expected 6 or 7"},
      {with([](auto& p) { p.function = "torch._utils\n_rebuild_tensor_v3\n"; }),
       "made from 6 arguments, expected 7 or 8"},
      {with([](auto& p) {
         p.function = "torch._utils\n_rebuild_tensor_v3\n";
         p.rest = "N";
       }),
       "a tensor has no dtype"},
      {with([](auto& p) { p.function = "torch._utils\n_rebuild_parameter\n"; }),
       "a parameter is not made from a tensor"},
      {pickled_dict("K\1" + pickled_tensor()), "a tensor's name is a number, expected a text"},
      {pickled_dict(pickled_text(std::string(4097, 'n')) + pickled_tensor()),
       "a tensor's name is a text of 4097 bytes, expected a text of at most 4096"},
      {pickled_dict(pickled_text("w") + "N" + pickled_text("w") + "N"), "'w' is there twice"},
      {pickled_dict(pickled_text("w") + "q\0N"s + "h\0N"s), "'w' is there twice"},
      {"\x80\x02" + pickled_tensor() + ".", "it holds a tensor, expected a dict of tensors"},
      {"\x80\x02]" + pickled_tensor() + "a.", "it holds a list, expected a dict of tensors"},
  };
}

std::vector<Hostile> malformed() {
  return {
      {"", "it wants 1 bytes, but 0 follow"},
      {"}.", "its protocol is 0, expected one of 2 to 5"},
      {"\x80\x01}.", "its protocol is 1, expected one of 2 to 5"},
      {"\x80\x06}.", "its protocol is 6, expected one of 2 to 5"},
      {"\x80\x02\x80\x02}.", "the instruction PROTO; only"},
      {"\x80\x02}", "it wants 1 bytes, but 0 follow"},
      {"\x80\x02.", "it ends with 0 values and 0 bytes after it, expected one value"},
      {"\x80\x02}}.", "it ends with 2 values and 0 bytes"},
      {"\x80\x02}.x", "it ends with 1 values and 1 bytes after it"},
      {"\x80\x02(}.", "it ends with 1 values"},
      {"\x80\x02(K\1s.", "a value is missing"},
      {"\x80\x02}(Nu.", "a key has no value"},
      {"\x80\x02}u.", "a mark is missing"},
      {"\x80\x02}(\x85.", "a value is missing"},
      {"\x80\x02N(q\0."s, "a value is missing"},
      {"\x80\x02]NNs.", "something is put into a list, expected a dict"},
      {"\x80\x02}Na.", "something is put into a dict, expected a list"},
      {"\x80\x02}q\1.", "a value is remembered as number 1, expected at most 0"},
      {"\x80\x02}r\xFF\xFF\xFF\xFF.", "a value is remembered as number 4294967295"},
      {"\x80\x02h\0."s, "value number 0 was never remembered"},
      {"\x80\x02j\xFF\xFF\xFF\x7F.", "value number 2147483647 was never remembered"},
      {"\x80\x02X\xFF\xFF\xFF\xFFx.", "a text has 4294967295 bytes, expected at most 4194304"},
      {"\x80\x02X\xFF\xFF\1\0x."s, "it wants 131071 bytes, but 2 follow"},
      {"\x80\x02\x95\1\1.", "it wants 8 bytes, but 3 follow"},
      {"\x80\x02\x8A\xFF.", "it wants 255 bytes, but 1 follow"},
      {"\x80\x04K\1K\2\x93.", "a name is no text"},
      {"\x80\x02NQ.", "a persistent id is no tuple of five"},
  };
}

TEST(StateDictPickle, RefusesWhateverIsHostileByOneSentence) {
  for (const auto& cases : {programs(), wrong_tensors(), malformed()}) {
    for (const Hostile& hostile : cases) {
      EXPECT_THAT(message(hostile.pickle), AllOf(HasSubstr("torch.save file 'm.pt': "),
                                                 HasSubstr(hostile.words), HasSubstr("; ")))
          << hostile.words;
    }
  }
}

TEST(StateDictPickle, RunsNothingThatItRefuses) {
  const testing::TempDir folder;
  const std::string marker = (folder.path() / "marker").string();
  for (std::string_view name : {"posix\nsystem", "os\nsystem", "subprocess\ncheck_call"}) {
    const std::string pickle =
        concat("\x80\x02", "c", name, "\n", pickled_text("touch " + marker), "\x85R.");
    EXPECT_THROW(read(pickle), CheckpointError);
  }
  EXPECT_FALSE(std::filesystem::exists(marker));
}

std::string repeated(std::string_view piece, std::size_t times) {
  std::string result;
  for (std::size_t i = 0; i < times; ++i) result += piece;
  return result;
}

// Each a megabyte or so of what grows in a careless reader.
std::vector<Hostile> bombs() {
  std::string doubling = pickled_text("0") + ")q\0"s;  // each tuple is the last one twice
  for (int i = 0; i < 200; ++i) {
    const std::array last{'h', static_cast<char>(i), 'h', static_cast<char>(i)};
    doubling += pickled_text(std::to_string(i + 1)).append(last.data(), last.size());
    doubling += "\x86q"s + static_cast<char>(i + 1);
  }
  return {
      {"\x80\x02" + repeated("(", 1'000'000), "it is nested deeper than 256"},
      {"\x80\x02" + repeated("]", 1'000'000), "more than 337430 dicts, lists"},
      {"\x80\x02N" + repeated("\x85", 1'000'000), "more than 337430 dicts, lists"},
      {"\x80\x02" + repeated("N", 1'100'000), "more than 1000000 values are open"},
      {"\x80\x04}" + repeated("\x94", 1'000'000) + "N.", "it ends with 2 values"},
      {pickled_dict(doubling), "accepted"},
      {pickled_dict(repeated(pickled_text(std::string(4096, 'k')) + "N", 250)), "is there twice"},
      {"\x80\x02}(" + pickled_text(std::string(1 << 20, 'k')) + "q\0N"s +
           repeated("h\0N"s, 300'000) + "u.",
       "is there twice"},
  };
}

TEST(StateDictPickle, TakesLittleMemoryAndTimeForBombs) {
  const std::int64_t peak_before = testing::peak_memory_kib();
  const std::clock_t begin = std::clock();  // of this process, whatever else the machine does
  for (const Hostile& bomb : bombs()) {
    EXPECT_THAT(message(bomb.pickle), HasSubstr(bomb.words)) << bomb.words;
  }
  const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  if (!testing::is_sanitised()) {
    EXPECT_LT(testing::peak_memory_kib() - peak_before, 96 * 1024);
    EXPECT_LT(seconds, 2.0);
  }
}

TEST(StateDictPickle, CountsADictThatIsNamedOverAndOverOnlySoOften) {
  std::string pickle = "\x80\x02}(" + pickled_text("a") + "}q\0("s;  // a dict of 10,000 entries
  for (int i = 0; i < 10'000; ++i) pickle += pickled_text("i" + std::to_string(i)) + "N";
  pickle += "u";
  for (int i = 0; i < 10'000; ++i) pickle += pickled_text("o" + std::to_string(i)) + "h\0"s;
  EXPECT_THAT(message(pickle + "u."), HasSubstr("its dicts name each other over and over"));
}

TEST(StateDictPickle, ReadsADictThatHoldsItself) {
  const std::string inner = pickled_text("w") + pickled_tensor() + pickled_text("me");
  for (const std::string& pickle :
       {"\x80\x02}q\0("s + inner + "h\0u."s, "\x80\x02}r\0\0\0\0("s + inner + "j\0\0\0\0u."s,
        "\x80\x04\x95\0\0\0\0\0\0\0\0}\x94("s + inner + "h\0u."s}) {
    const StateDictPickle dict = read(pickle);
    EXPECT_THAT(dict.dicts, ElementsAre(PickledDict{"me", 1}));
    EXPECT_EQ(dict.tensors.size(), 1U);
  }
}

}  // namespace
}  // namespace torch_accelerated
