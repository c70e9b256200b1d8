// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/safetensors_header.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/text.h"
#include "support/mutations.h"
#include "support/safetensors_files.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::safetensors_file;

SafetensorsHeader parse(const std::string& file) {
  return parse_safetensors_header(file, file.size(), "m.safetensors");
}

std::string message(const std::string& file) {
  try {
    parse(file);
  } catch (const DataError& error) {
    return error.what();
  }
  return "accepted";
}

// A header of one tensor "a" with these fields.
std::string one(std::string_view fields, std::size_t data) {
  return safetensors_file(concat(R"({"a":{)", fields, "}}"), data);
}

TEST(SafetensorsHeader, ReadsAFileOfPythons) {
  const SafetensorsHeader header = parse(testing::python_safetensors_file());
  const auto entry = [](std::string name, SafetensorsDtype dtype, std::vector<std::int64_t> shape,
                        std::uint64_t begin, std::uint64_t end) {
    return SafetensorsEntry{std::move(name), dtype, std::move(shape), begin, end, std::nullopt};
  };
  EXPECT_EQ(header.data_offset, 344U);
  EXPECT_EQ(header.metadata, (SafetensorsMetadata{{"format", "pt"}}));
  EXPECT_EQ(header.tensors, (std::vector{
                                entry("count", SafetensorsDtype::kI64, {2}, 0, 16),
                                entry("scalar \xC3\xA9\"", SafetensorsDtype::kF64, {}, 16, 24),
                                entry("w", SafetensorsDtype::kF32, {2, 2}, 24, 40),
                                entry("none", SafetensorsDtype::kF16, {0, 5}, 40, 40),
                                entry("mask", SafetensorsDtype::kBool, {3}, 40, 43),
                            }));
  EXPECT_FALSE(crc_of(header, "w"));
}

TEST(SafetensorsHeader, ReadsWhatItWrote) {
  const std::vector<SafetensorsEntry> tensors = testing::some_tensors();
  const std::string file = testing::own_safetensors_file(tensors);
  const SafetensorsHeader header = parse(file);
  EXPECT_EQ(header.data_offset % 8, 0U);
  EXPECT_EQ(header.metadata, (SafetensorsMetadata{{"format", "pt"}, {"made by", "a test"}}));
  ASSERT_EQ(header.tensors.size(), tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    SafetensorsEntry read = header.tensors[i];
    EXPECT_EQ(crc_of(header, read.name), read.crc);
    EXPECT_EQ(read.crc,
              crc32c(file.data() + header.data_offset + read.begin, read.end - read.begin));
    read.crc.reset();
    EXPECT_EQ(read, tensors[i]);
  }
  EXPECT_FALSE(crc_of(header, "another"));
  EXPECT_EQ(file, testing::own_safetensors_file(tensors));
}

TEST(SafetensorsHeader, HasItsLengthBeforeTheChecksumsAreKnown) {
  std::vector<SafetensorsEntry> tensors = testing::some_tensors();
  const std::size_t before = write_safetensors_header(tensors).size();
  for (SafetensorsEntry& tensor : tensors) tensor.crc = 0xFEDCBA98;
  EXPECT_EQ(write_safetensors_header(tensors).size(), before);
  const std::string empty = write_safetensors_header({});
  EXPECT_EQ(parse(empty).tensors.size(), 0U);
  EXPECT_EQ(parse(empty).data_offset, empty.size());
}

// The bytes of the format's first version; files of it must stay readable.
TEST(SafetensorsHeader, IsWrittenAsItAlwaysWas) {
  std::vector<SafetensorsEntry> tensors(1);
  tensors[0].name = "w";
  tensors[0].shape = {2, 1};
  tensors = lay_out_safetensors(tensors);
  tensors[0].crc = 0x0123ABCD;
  EXPECT_EQ(write_safetensors_header(tensors, {{"k", "v"}}).substr(8),
            R"({"__metadata__":  {"crc32c":"86ae616b","k":"v","crc32c:w":"0123abcd"},)"
            R"("w":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}   )");
}

TEST(SafetensorsHeader, LaysOutTheWidestValuesFirst) {
  const std::vector<SafetensorsEntry> tensors = testing::some_tensors();
  std::vector<std::string> names;
  for (const SafetensorsEntry& tensor : tensors) {
    names.push_back(tensor.name);
    EXPECT_EQ(tensor.begin * 8 % safetensors_bits(tensor.dtype), 0U) << tensor.name;
  }
  EXPECT_EQ(names, (std::vector<std::string>{"a \"quoted\\ name\n\xC3\xA9", "layer.weight",
                                             "layer.bias", "mask", "", "four bits"}));
}

TEST(SafetensorsHeader, AcceptsTensorsInAnyOrderOfWriting) {
  const SafetensorsHeader header =
      parse(safetensors_file(R"({"y":{"data_offsets":[1,3],"shape":[1],"dtype":"F16"},)"
                             R"("e":{"dtype":"I8","shape":[0],"data_offsets":[1,1]},)"
                             R"("x":{"dtype":"U8","shape":[],"data_offsets":[0,1]}} )",
                             3));
  ASSERT_EQ(header.tensors.size(), 3U);
  EXPECT_EQ(header.tensors[0].name, "x");
  EXPECT_EQ(header.tensors[1].name, "e");
  EXPECT_EQ(header.tensors[2].name, "y");
}

struct Hostile {
  std::string file;
  std::string_view words;
};

std::vector<Hostile> wrong_beginnings() {
  const std::string huge("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F{}", 10);
  std::string beyond = safetensors_file("{}");
  beyond[0] = 3;
  const std::string long_text(SafetensorsLimits::kTextBytes + 1, '1');
  return {
      {"", "it holds 0 bytes, expected at least the 8"},
      {huge, "offset 0: the header's length is 9223372036854775807, expected at most 100000000"},
      {std::string("PK\3\4\0\0\1\0\0\0", 10), "looks like a file of torch.save"},
      {"version https://git-lfs", "looks like a Git LFS pointer"},
      {beyond, "offset 0: the header's length is 3, but only 2 bytes follow"},
      {safetensors_file(""), "offset 8: the header begins with '', expected '{'"},
      {safetensors_file("[]"), "offset 8: the header begins with '[', expected '{'"},
      {safetensors_file("\xEF\xBB\xBF{}"), "offset 8: the header begins with '?'"},
      {safetensors_file({"{}\0{}", 5}), "offset 10: the header has a zero byte"},
      {safetensors_file("{}{}"), "offset 10: the header is not JSON"},
      {safetensors_file("{\"\xFF\":1}"), "offset 10: the header is not JSON"},
      {safetensors_file("{\"a\":1e999}"), "the header is not JSON"},
      {safetensors_file(concat("{\"", long_text)), "offset 9: a text, number or space of 4194307"},
      {safetensors_file(concat("{\"a\":", long_text)), "offset 13: a text, number or space"},
      {safetensors_file("{}", 1), "offset 10: 1 bytes follow the last tensor's, expected none"},
  };
}

std::vector<Hostile> wrong_values() {
  const std::string deep(100'000, '[');
  return {
      {safetensors_file(R"({"a":1})"), "tensor 'a': it has 1, expected an object with dtype"},
      {safetensors_file(R"({"a":["U8",[1],[0,1]]})", 1), "tensor 'a': it has an array"},
      {one(concat(R"("shape":)", deep), 1), "tensor 'a': it has an array, expected a shape"},
      {one(R"("dtype":{"x":1})", 1), "tensor 'a': it has an object, expected a text for dtype"},
      {one(R"("dtype":3)", 1), "tensor 'a': it has 3, expected a text for dtype"},
      {one(R"("dtype":"F128")", 1), "tensor 'a': its dtype is 'F128', expected one of"},
      {one(R"("shape":"1")", 1), "tensor 'a': it has a text, expected an array for shape"},
      {one(R"("shape":[-1])", 1), "tensor 'a': it has -1, expected a shape of whole numbers"},
      {one(R"("shape":[-0])", 1), "tensor 'a': it has -0, expected a shape"},
      {one(R"("shape":[1.5])", 1), "tensor 'a': it has 1.5, expected a shape"},
      {one(R"("shape":[9007199254740993])", 1), "it has 9007199254740993, expected a shape"},
      {one(R"("shape":[18446744073709551616])", 1), "it has 18446744073709551616, expected"},
      {one(R"("shape":[null])", 1), "tensor 'a': it has null, expected a shape"},
      {one(R"("shape":[true])", 1), "tensor 'a': it has true, expected a shape"},
      {one(R"("shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1])", 1), "more sizes than 16"},
      {one(R"("data_offsets":[0])", 1), "it has a single one, expected data_offsets of two"},
      {one(R"("data_offsets":[])", 1), "it has none, expected data_offsets of two"},
      {one(R"("data_offsets":[0,1,2])", 1), "it has a third number, expected data_offsets of two"},
      {one(R"("data_offsets":[0,"1"])", 1), "it has a text, expected data_offsets of two"},
      {one(R"("dtype":"U8","dtype":"U8")", 1), "tensor 'a': its dtype is there twice"},
      {one(R"("dtype":"U8","shape":[1])", 1), "tensor 'a': it has no data_offsets"},
      {one(R"("strides":[1])", 1), "tensor 'a': it has a field 'strides'"},
      {safetensors_file(R"({"__metadata__":null})"),
       "__metadata__: it has null, expected an object"},
      {safetensors_file(R"({"__metadata__":{"k":1}})"), "__metadata__: it has 1, expected texts"},
      {safetensors_file(R"({"__metadata__":{"k":{}}})"), "__metadata__: it has an object"},
      {safetensors_file(R"({"__metadata__":{},"__metadata__":{}})"), "__metadata__: it is there a"},
      {safetensors_file(R"({"__metadata__":{"k":"","k":""}})"), "the text 'k' is there twice"},
      {safetensors_file(concat("{\"", std::string(4097, 'n'), "\":1}")), "of 4097 bytes ('nnn"},
  };
}

std::vector<Hostile> wrong_layouts() {
  const auto two = [](std::string_view first, std::string_view second) {
    return safetensors_file(
        concat(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":)", first,
               R"(},"b":{"dtype":"U8","shape":[2],"data_offsets":)", second, "}}"),
        4);
  };
  const auto shaped = [](std::string_view dtype, std::string_view shape, std::string_view offsets,
                         std::size_t data) {
    return one(
        concat(R"("dtype":")", dtype, R"(","shape":)", shape, R"(,"data_offsets":)", offsets),
        data);
  };
  std::string own = testing::own_safetensors_file(testing::some_tensors());
  own[own.find("a test")] = 'A';
  return {
      {shaped("U8", "[4294967296,4294967296]", "[0,0]", 0), "are no whole bytes below 2^60"},
      {shaped("U8", "[0,4294967296,4294967296]", "[0,0]", 0), "are no whole bytes below 2^60"},
      {shaped("F4", "[3]", "[0,2]", 2), "tensor 'a': its shape times its dtype F4"},
      {shaped("F32", "[2]", "[0,4]", 4),
       "take 4 bytes, expected 8 for its shape and its dtype F32"},
      {shaped("U8", "[2]", "[2,0]", 2), "tensor 'a': its data_offsets begin at 2 and end at 0"},
      {shaped("U8", "[1099511627776]", "[0,1099511627776]", 9), "bytes end at 1099511627776, but"},
      {two("[0,2]", "[1,3]"),
       "tensor 'b': its bytes begin at 1, expected 2 where the ones before "
       "end (an overlap)"},
      {two("[0,2]", "[0,2]"), "tensor 'b': its bytes begin at 0, expected 2"},
      {two("[1,3]", "[3,4]"), "tensor 'b': its data_offsets take 1 bytes, expected 2"},
      {shaped("U8", "[2]", "[1,3]", 3),
       "begin at 1, expected 0 where the ones before end (a hole)"},
      {safetensors_file(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                        R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                        2),
       "tensor 'a': it is there twice"},
      {safetensors_file(R"({"__metadata__":{"crc32c:a":"0123ABCD"},)"
                        R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                        1),
       "tensor 'a': its CRC32C is '0123ABCD', expected 8 hexadecimal digits"},
      {own, "offset 37: the header's CRC32C is "},
      {safetensors_file(R"({"__metadata__":  {"k":"v"}})"), "header's CRC32C is missing"},
  };
}

TEST(SafetensorsHeader, RefusesWhateverIsHostileByOneSentence) {
  const std::int64_t peak_before = testing::peak_memory_kib();
  for (const auto& cases : {wrong_beginnings(), wrong_values(), wrong_layouts()}) {
    for (const Hostile& hostile : cases) {
      EXPECT_THAT(message(hostile.file), AllOf(HasSubstr("safetensors file 'm.safetensors': "),
                                               HasSubstr(hostile.words), HasSubstr("; ")))
          << hostile.file.substr(0, 200);
    }
  }
  if (!testing::is_sanitised()) {
    EXPECT_LT(testing::peak_memory_kib() - peak_before, 64 * 1024);
  }
}

TEST(SafetensorsHeader, IsNotWrittenAsNoneCouldReadIt) {
  std::vector<SafetensorsEntry> tensors(2);
  EXPECT_THROW(write_safetensors_header(lay_out_safetensors(tensors)), ArgumentError) << "one name";
  tensors[1].name = "\xFF";
  EXPECT_THROW(write_safetensors_header(lay_out_safetensors(tensors)), ArgumentError) << "no UTF-8";
  tensors[1].name = "b";
  EXPECT_THROW(write_safetensors_header(tensors), ArgumentError) << "not laid out";
  tensors = lay_out_safetensors(tensors);
  EXPECT_NO_THROW(write_safetensors_header(tensors));
  EXPECT_THROW(write_safetensors_header(tensors, {{"crc32c:x", ""}}), ArgumentError);
  EXPECT_THROW(write_safetensors_header(tensors, {{"crc32c", ""}}), ArgumentError);
  std::swap(tensors[0], tensors[1]);
  EXPECT_THROW(write_safetensors_header(tensors), ArgumentError) << "not in order";
  tensors[0].shape = {-1};
  EXPECT_THROW(lay_out_safetensors(tensors), ArgumentError);
}

TEST(SafetensorsHeader, WantsTheWholeHeaderOfItsCaller) {
  const std::string file = testing::python_safetensors_file();
  EXPECT_EQ(safetensors_header_size(file.substr(0, 8), file.size(), "m"), 344U);
  EXPECT_THROW(safetensors_header_size(file.substr(0, 7), file.size(), "m"), ArgumentError);
  EXPECT_THROW(parse_safetensors_header(file.substr(0, 343), file.size(), "m"), ArgumentError);
  EXPECT_NO_THROW(parse_safetensors_header(file.substr(0, 344), file.size(), "m"));
}

}  // namespace
}  // namespace torch_accelerated
