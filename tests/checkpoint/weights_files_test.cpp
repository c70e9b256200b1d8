// SPDX-License-Identifier: Apache-2.0
// Which files of weights are read, and which are refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <filesystem>
#include <sstream>

#include "base/text.h"
#include "support/file_bytes.h"
#include "support/safetensors_files.h"
#include "support/torch_files.h"
#include "support/weights.h"

namespace torch_accelerated::weights_files_test {
namespace {

using testing::copy_of;
using testing::difference;
using ::testing::HasSubstr;
using testing::mlp;
using testing::read_bytes;
using testing::refusal;
using testing::tensors_of;
using testing::write_bytes;
using WeightsFiles = testing::WeightsFixture;

std::string hex(const torch::Tensor& tensor) {
  const auto values = tensor.detach().contiguous();
  const auto* bytes = static_cast<const unsigned char*>(values.const_data_ptr());
  std::string text;
  for (std::size_t i = 0; i < values.nbytes(); ++i) {
    text += "0123456789abcdef"[bytes[i] >> 4];
    text += "0123456789abcdef"[bytes[i] & 15];
  }
  return text;
}

// The bytes of each tensor that PyTorch wrote into a golden file.
std::vector<std::pair<std::string, std::string>> golden_values(const std::string& file) {
  std::istringstream lines(testing::golden_file("tensors.txt"));
  std::vector<std::pair<std::string, std::string>> values;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string of, key, name, dtype, shape, bytes;
    for (auto* field : {&of, &key, &name, &dtype, &shape, &bytes})
      std::getline(fields, *field, '\t');
    if (of == file) values.emplace_back(name, bytes);
  }
  return values;
}

std::filesystem::path golden_path(const std::string& name) {
  return std::filesystem::path(__FILE__).parent_path() / "golden" / name;
}

TEST_F(WeightsFiles, OfPythonsTorchSaveGiveItsNumbers) {
  for (const char* name : {"mlp.pt", "checkpoint.pt"}) {
    auto net = mlp();
    const auto report =
        load_weights(*net, golden_path(name),
                     {.key = name == std::string_view("checkpoint.pt") ? "model_state" : ""});
    EXPECT_EQ(report.loaded, 9U);
    const auto expected = golden_values(name);
    EXPECT_EQ(expected.size(), 9U);
    for (const auto& [tensor, bytes] : expected) {
      EXPECT_EQ(hex(tensors_of(*net)[tensor]), bytes) << name << " " << tensor;
    }
  }
  for (const char* name : {"buffer.pt", "protocol4.pt", "protocol5.pt"}) {
    torch::nn::Linear layer(3, 4);
    EXPECT_EQ(load_weights(*layer, golden_path(name)).loaded, 2U);
    EXPECT_EQ(hex(layer->weight), golden_values(name).at(0).second);
    EXPECT_EQ(hex(layer->bias), golden_values(name).at(1).second);
  }
}

// 0.37 times each position, and one more for each tensor: what the script says.
TEST_F(WeightsFiles, OfPythonsTorchSaveAreConvertedToo) {
  auto net = mlp();
  net->to(torch::kFloat64);
  load_weights(*net, golden_path("mlp.pt"));
  const auto expected = torch::arange(12, torch::kFloat64).reshape({4, 3}) * 0.37;
  EXPECT_TRUE(torch::allclose(net->parameters()[0], expected, 1e-6, 1e-6));
  EXPECT_EQ(net->named_buffers()["1.num_batches_tracked"].item<std::int64_t>(), 6);
}

TEST_F(WeightsFiles, OfPythonsTorchSaveThatAreNoStateDictAreRefused) {
  auto net = mlp();
  EXPECT_THAT(refusal(*net, golden_path("checkpoint.pt")), HasSubstr("'model_state' (9)"));
  EXPECT_THAT(refusal(*net, golden_path("legacy.pt")), HasSubstr("torch's old format"));
  EXPECT_THAT(refusal(*net, golden_path("module.pt")), HasSubstr("Linear; only tensors are read"));
  EXPECT_THAT(refusal(*net, golden_path("script.pt")), HasSubstr("TorchScript"));
  EXPECT_THAT(refusal(*net, golden_path("list.pt")), HasSubstr("it holds a list"));
  EXPECT_THAT(refusal(*net, golden_path("buffer.pt")), HasSubstr("unexpected: 'weight', 'bias'"));
}

TEST_F(WeightsFiles, OfShardsAreReadByTheirIndexOrTheirFolder) {
  const auto tensors = copy_of(*net_);
  const auto shards = folder_.path() / "sharded";
  std::filesystem::create_directory(shards);
  TensorDict parts[2];
  std::string map;
  for (const auto& [name, tensor] : tensors) {
    const auto shard = name.starts_with("0.") ? 0 : 1;
    parts[shard].set(name, tensor);
    map += concat(map.empty() ? "" : ",", "\"", name, "\":\"model-0000", shard + 1,
                  "-of-00002.safetensors\"");
  }
  for (int i : {0, 1}) {
    written(concat("sharded/model-0000", i + 1, "-of-00002.safetensors"), parts[i]);
  }
  const auto index = shards / "model.safetensors.index.json";
  write_bytes(index, concat(R"({"metadata":{"total_size":1},"weight_map":{)", map, "}}"));
  for (const auto& path : {index, shards}) {
    auto other = mlp(2);
    EXPECT_EQ(load_weights(*other, path).loaded, 9U);
    EXPECT_EQ(difference(*other, tensors), "");
  }
  std::filesystem::remove(shards / "model-00002-of-00002.safetensors");
  EXPECT_THROW(load_weights(*net_, index), FileError);
  write_bytes(index, R"({"weight_map":[]})");
  EXPECT_NE(refusal(*net_, index), "accepted");
}

TEST_F(WeightsFiles, AreRefusedAtEveryTruncation) {
  const auto bytes = read_bytes(file_);
  auto other = mlp(2);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    write_bytes(file_, bytes.substr(0, size));
    EXPECT_THAT(refusal(*other, file_), HasSubstr(file_.string())) << size;
  }
}

// A flipped bit of the checksums' frame makes the file another writer's; its numbers are right
// then.
TEST_F(WeightsFiles, WithAnySingleFlippedBitAreRefusedOrRight) {
  const auto bytes = read_bytes(file_);
  const auto right = copy_of(*net_);
  auto other = mlp(2);
  const auto wrong = copy_of(*other);
  std::size_t accepted = 0;
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    auto flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    write_bytes(file_, flipped);
    if (refusal(*other, file_) != "accepted") continue;
    ++accepted;
    EXPECT_EQ(difference(*other, right), "") << "bit " << bit;
    other = mlp(2);
  }
  EXPECT_LT(accepted, 8 * 60U);
  EXPECT_EQ(difference(*mlp(2), wrong), "");
}

TEST_F(WeightsFiles, DamagedInTheirLastTensorChangeNothing) {
  auto bytes = read_bytes(file_);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  write_bytes(file_, bytes);
  auto other = mlp(2);
  EXPECT_THAT(refusal(*other, file_, {.strict = false}), HasSubstr("the file is damaged"));
}

TEST_F(WeightsFiles, OfATypeThatLibTorchLacksChangeNothing) {
  torch::nn::Linear layer(2, 2);
  const auto file = folder_.path() / "f4.safetensors";
  write_bytes(file, testing::safetensors_file(
                        R"({"weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
                        R"("bias":{"dtype":"F4","shape":[2],"data_offsets":[16,17]}})",
                        17));
  EXPECT_THAT(refusal(*layer, file), HasSubstr("tensor 'bias' is F4, which LibTorch has no"));
}

TEST_F(WeightsFiles, OfTruthValuesAreZeroOrOne) {
  struct Mask : torch::nn::Module {
    Mask() { mask = register_buffer("mask", torch::zeros({3}, torch::kBool)); }
    torch::Tensor mask;
  } net;
  const auto file = folder_.path() / "mask.safetensors";
  write_bytes(file, testing::safetensors_file(
                        R"({"mask":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]}})") +
                        std::string("\0\2\xFF", 3));
  load_weights(net, file);
  EXPECT_EQ(hex(net.mask), "000101");
}

// A file of one tensor whose header is this long: its name is stretched.
std::string with_header_of(const std::filesystem::path& path, std::size_t bytes) {
  const auto length_with = [&](std::size_t stretch) {
    TensorDict tensors{{"w", torch::ones({2})}};
    for (int i = 0; stretch > 0; ++i) {
      const auto part = std::min<std::size_t>(stretch, 4000);
      tensors.set(concat(i) + std::string(part, 'x'), torch::ones({1}));
      stretch -= part;
    }
    std::filesystem::remove(path);
    write_tensor_file(system_io(), path.string(), tensors);
    const auto file = read_bytes(path);
    std::size_t length = 0;
    for (std::size_t i = 8; i-- > 0;) length = length << 8 | static_cast<unsigned char>(file[i]);
    return length;
  };
  for (std::size_t stretch = 0, length = 0; stretch < bytes; ++stretch) {
    length = length_with(stretch);
    if (length == bytes) break;
    if (length + 1000 < bytes) stretch += (bytes - length - 900) / 2;  // it stands there twice
  }
  return read_bytes(path).substr(0, 2);
}

TEST_F(WeightsFiles, WhoseFileBeginsAsOthersDoAreRead) {
  const auto file = folder_.path() / "long.safetensors";
  for (const auto& [bytes, begins] : {std::pair<std::size_t, std::string>(0x4B50, "PK"),
                                      {0x0280, "\x80\2"},
                                      {0x0380, "\x80\3"}}) {
    ASSERT_EQ(with_header_of(file, bytes), begins);
    struct One : torch::nn::Module {
      One() { w = register_parameter("w", torch::zeros({2})); }
      torch::Tensor w;
    } net;
    EXPECT_EQ(load_weights(net, file, {.strict = false}).loaded, 1U);
    EXPECT_TRUE(torch::equal(net.w, torch::ones({2})));
  }
}

}  // namespace
}  // namespace torch_accelerated::weights_files_test
