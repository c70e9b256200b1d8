// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/checkpoint/weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <torch/torch.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <sstream>

#include "base/text.h"
#include "checkpoint/tensor_file.h"
#include "support/file_bytes.h"
#include "support/safetensors_files.h"
#include "support/temp_dir.h"
#include "support/torch_files.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::names_in;
using testing::read_bytes;
using testing::TempDir;
using testing::write_bytes;

/// What tests/reference/torch_files.py wrote the state dict of.
torch::nn::Sequential mlp(std::uint64_t seed = 1, std::int64_t classes = 2) {
  torch::manual_seed(seed);
  torch::nn::Sequential net(torch::nn::Linear(3, 4), torch::nn::BatchNorm1d(4),
                            torch::nn::Linear(4, classes));
  const torch::NoGradGuard no_grad;
  net->forward(torch::randn({8, 3}));  // BatchNorm's buffers have numbers then
  return net;
}

TensorDict tensors_of(const torch::nn::Module& module) {
  TensorDict tensors;
  for (const auto& item : module.named_parameters()) tensors.set(item.key(), item.value());
  for (const auto& item : module.named_buffers()) tensors.set(item.key(), item.value());
  return tensors;
}

TensorDict copy_of(const torch::nn::Module& module) {
  TensorDict copies;
  for (const auto& [name, tensor] : tensors_of(module)) copies.set(name, tensor.detach().clone());
  return copies;
}

// The first tensor that isn't what is expected; empty where there is none.
std::string difference(const torch::nn::Module& module, const TensorDict& expected) {
  const auto tensors = tensors_of(module);
  if (tensors.size() != expected.size()) return "number of tensors";
  for (const auto& [name, tensor] : tensors) {
    const auto& other = expected[name];
    if (tensor.scalar_type() != other.scalar_type() || !torch::equal(tensor, other)) return name;
  }
  return {};
}

// What is said of a file; the module must be as it was then.
std::string refusal(torch::nn::Module& module, const std::filesystem::path& file,
                    const LoadWeightsOptions& options = {}) {
  const auto before = copy_of(module);
  try {
    load_weights(module, file, options);
  } catch (const CheckpointError& error) {
    EXPECT_EQ(difference(module, before), "");
    return error.what();
  }
  return "accepted";
}

/// A folder with the weights of `mlp()` in it.
class Weights : public ::testing::Test {
 protected:
  Weights() { save_weights(*net_, file_); }

  // A file of these tensors.
  std::filesystem::path written(const std::string& name, const TensorDict& tensors) const {
    const auto path = folder_.path() / name;
    write_tensor_file(system_io(), path.string(), tensors);
    return path;
  }

  TempDir folder_;
  std::filesystem::path file_ = folder_.path() / "net.safetensors";
  torch::nn::Sequential net_ = mlp();
};

TEST_F(Weights, ComeBackToTheBitWithTheBuffers) {
  auto other = mlp(2);
  ASSERT_NE(difference(*other, copy_of(*net_)), "");
  const auto report = load_weights(*other, file_);
  EXPECT_EQ(difference(*other, copy_of(*net_)), "");
  EXPECT_EQ(report.loaded, 9U);
  EXPECT_TRUE(report.is_complete());
  EXPECT_EQ(report.text(), "9 tensors loaded");
  EXPECT_TRUE(other->parameters()[0].requires_grad());
}

TEST_F(Weights, OfModulesWithoutSomeTensorsComeBack) {
  const auto make = [] {
    return torch::nn::Sequential(
        torch::nn::Linear(torch::nn::LinearOptions(3, 4).bias(false)),
        torch::nn::BatchNorm1d(torch::nn::BatchNorm1dOptions(4).affine(false)),
        torch::nn::BatchNorm1d(torch::nn::BatchNorm1dOptions(4).track_running_stats(false)));
  };
  auto net = make();
  const auto file = folder_.path() / "few.safetensors";
  save_weights(*net, file);
  auto other = make();
  EXPECT_EQ(load_weights(*other, file).loaded, 6U);
  EXPECT_TRUE(torch::equal(other->parameters()[0], net->parameters()[0]));
}

TEST_F(Weights, WithStridesComeBack) {
  struct Strided : torch::nn::Module {
    Strided() {
      table = register_buffer("table", torch::randn({3, 4}).t());
      row = register_buffer("row", torch::randn({1, 4}).expand({2, 4}));
      none = register_buffer("none", torch::empty({0, 3}));
      number = register_buffer("number", torch::tensor(2.5, torch::kFloat64));
    }
    torch::Tensor table, row, none, number;
  } net;
  const auto file = folder_.path() / "strided.safetensors";
  save_weights(net, file);
  Strided other;
  other.row.set_data(torch::zeros({2, 4}));
  EXPECT_EQ(load_weights(other, file).loaded, 4U);
  EXPECT_EQ(difference(other, copy_of(net)), "");
  EXPECT_FALSE(other.table.is_contiguous());
}

/// One tensor under two names.
struct Tied : torch::nn::Module {
  Tied() {
    weight = register_parameter("encoder", torch::randn({2, 3}));
    register_parameter("decoder", weight);
  }
  torch::Tensor weight;
};

TEST_F(Weights, OfATiedTensorStandUnderBothNames) {
  Tied net;
  const auto file = folder_.path() / "tied.safetensors";
  save_weights(net, file);
  EXPECT_EQ(read_tensors(*open_tensors(file.string())).size(), 2U);
  Tied other;
  EXPECT_EQ(load_weights(other, file).loaded, 1U);
  EXPECT_EQ(difference(other, copy_of(net)), "");
  EXPECT_EQ(other.named_parameters()["encoder"].data_ptr(),
            other.named_parameters()["decoder"].data_ptr());
}

TEST_F(Weights, OfATiedTensorMayStandUnderOneName) {
  for (const char* name : {"encoder", "decoder"}) {
    Tied net;
    const auto file = written(concat(name, ".safetensors"), {{name, torch::ones({2, 3})}});
    EXPECT_TRUE(load_weights(net, file).is_complete());
    EXPECT_TRUE(torch::equal(net.weight, torch::ones({2, 3})));
  }
  Tied net;
  const auto file =
      written("both", {{"encoder", torch::ones({2, 3})}, {"decoder", torch::ones(5)}});
  EXPECT_THAT(refusal(net, file), HasSubstr("mismatched: 'decoder' (F32 of shape [2, 3], in the "
                                            "file F32 of shape [5])"));
}

TEST_F(Weights, ThatDoNotFitAreRefusedWithAllTheirNames) {
  const auto file = written("other.safetensors", {{"0.weight", torch::ones({4, 3})},
                                                  {"0.bias", torch::ones({5})},
                                                  {"2.weight", torch::ones({4, 2})},
                                                  {"head.weight", torch::ones({1})},
                                                  {"head.\nbias", torch::ones({1})}});
  EXPECT_THAT(refusal(*net_, file),
              AllOf(HasSubstr("load_weights: '" + file.string() + "' doesn't fit the module"),
                    HasSubstr("missing: '1.weight', '1.bias', '2.bias', '1.running_mean', "
                              "'1.running_var', '1.num_batches_tracked'; "),
                    HasSubstr("'head.weight'"), HasSubstr("'head.?bias'"),
                    HasSubstr("'0.bias' (F32 of shape [4], in the file F32 of shape [5])"),
                    HasSubstr("'2.weight' (F32 of shape [2, 4], in the file F32 of shape [4, 2])"),
                    HasSubstr("strict = false")));
}

TEST_F(Weights, ThatDoNotFitAreToldInAReportWhereThatIsWanted) {
  const auto file = written("other.safetensors", {{"0.weight", torch::ones({4, 3})},
                                                  {"0.bias", torch::ones({5})},
                                                  {"head.weight", torch::ones({1})}});
  auto expected = copy_of(*net_);
  expected.set("0.weight", torch::ones({4, 3}));
  const auto report = load_weights(*net_, file, {.strict = false});
  EXPECT_EQ(difference(*net_, expected), "");
  EXPECT_EQ(report.loaded, 1U);
  EXPECT_FALSE(report.is_complete());
  EXPECT_THAT(report.missing,
              ElementsAre("1.weight", "1.bias", "2.weight", "2.bias", "1.running_mean",
                          "1.running_var", "1.num_batches_tracked"));
  EXPECT_THAT(report.unexpected, ElementsAre("head.weight"));
  EXPECT_THAT(report.mismatched,
              ElementsAre("'0.bias' (F32 of shape [4], in the file F32 of shape [5])"));
  EXPECT_THAT(report.text(), HasSubstr("1 tensor loaded; missing: '1.weight', '1.bias', "));
  EXPECT_THAT(report.text(), HasSubstr("; unexpected: 'head.weight'; mismatched: '0.bias' (F32"));
}

TEST_F(Weights, TakePrefixRenameAndSkip) {
  TensorDict tensors{{"optimizer", torch::ones({1})}};
  for (const auto& [name, tensor] : copy_of(*net_)) {
    const auto is_layer = name.starts_with("0.");
    tensors.set(is_layer ? "model.encoder." + name.substr(2) : "model." + name, tensor);
  }
  const auto file = written("prefixed.safetensors", tensors);
  auto other = mlp(2);
  EXPECT_TRUE(
      load_weights(*other, file, {.prefix = "model.", .rename = {{"encoder.", "0."}, {"e", "x"}}})
          .is_complete());
  EXPECT_EQ(difference(*other, copy_of(*net_)), "");

  auto tuned = mlp(3, 7);  // with another head
  auto expected = copy_of(*net_);
  for (const char* name : {"2.weight", "2.bias"}) expected.set(name, copy_of(*tuned)[name]);
  const auto report = load_weights(
      *tuned, file, {.prefix = "model.", .skip = {"2."}, .rename = {{"encoder.", "0."}}});
  EXPECT_TRUE(report.is_complete());
  EXPECT_EQ(report.loaded, 7U);
  EXPECT_EQ(difference(*tuned, expected), "");
  EXPECT_THAT(refusal(*other, file, {.prefix = "net."}),
              HasSubstr("missing: '0.weight', '0.bias'"));
}

TEST_F(Weights, ThatRenameGivesOneNameAreRefused) {
  auto tensors = copy_of(*net_);
  tensors.set("old.weight", torch::ones({4, 3}));
  const auto file = written("twice.safetensors", tensors);
  EXPECT_THAT(refusal(*net_, file, {.rename = {{"old.", "0."}}}),
              HasSubstr("unexpected: '0.weight'"));
}

TEST_F(Weights, OfAnotherDtypeAreConverted) {
  for (const auto dtype : {torch::kFloat64, torch::kBFloat16, torch::kFloat16}) {
    auto other = mlp(2);
    other->to(dtype);
    EXPECT_TRUE(load_weights(*other, file_).is_complete());
    for (const auto& [name, tensor] : tensors_of(*other)) {
      const auto from = tensors_of(*net_)[name];
      EXPECT_TRUE(torch::equal(tensor, from.to(tensor.scalar_type()))) << name;
    }
    const auto file = folder_.path() / concat(dtype, ".safetensors");
    save_weights(*other, file);  // and back, through that dtype
    auto single = mlp(3);
    load_weights(*single, file);
    EXPECT_EQ(single->parameters()[0].scalar_type(), torch::kFloat32);
    EXPECT_TRUE(
        torch::equal(single->parameters()[0], net_->parameters()[0].to(dtype).to(torch::kFloat32)));
  }
}

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

TEST_F(Weights, OfPythonsTorchSaveGiveItsNumbers) {
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
TEST_F(Weights, OfPythonsTorchSaveAreConvertedToo) {
  auto net = mlp();
  net->to(torch::kFloat64);
  load_weights(*net, golden_path("mlp.pt"));
  const auto expected = torch::arange(12, torch::kFloat64).reshape({4, 3}) * 0.37;
  EXPECT_TRUE(torch::allclose(net->parameters()[0], expected, 1e-6, 1e-6));
  EXPECT_EQ(net->named_buffers()["1.num_batches_tracked"].item<std::int64_t>(), 6);
}

TEST_F(Weights, OfPythonsTorchSaveThatAreNoStateDictAreRefused) {
  auto net = mlp();
  EXPECT_THAT(refusal(*net, golden_path("checkpoint.pt")), HasSubstr("'model_state' (9)"));
  EXPECT_THAT(refusal(*net, golden_path("legacy.pt")), HasSubstr("torch's old format"));
  EXPECT_THAT(refusal(*net, golden_path("module.pt")), HasSubstr("Linear; only tensors are read"));
  EXPECT_THAT(refusal(*net, golden_path("script.pt")), HasSubstr("TorchScript"));
  EXPECT_THAT(refusal(*net, golden_path("list.pt")), HasSubstr("it holds a list"));
  EXPECT_THAT(refusal(*net, golden_path("buffer.pt")), HasSubstr("unexpected: 'weight', 'bias'"));
}

TEST_F(Weights, OfShardsAreReadByTheirIndexOrTheirFolder) {
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

TEST_F(Weights, AreRefusedAtEveryTruncation) {
  const auto bytes = read_bytes(file_);
  auto other = mlp(2);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    write_bytes(file_, bytes.substr(0, size));
    EXPECT_THAT(refusal(*other, file_), HasSubstr(file_.string())) << size;
  }
}

// A flipped bit of the checksums' frame makes the file another writer's; its numbers are right
// then.
TEST_F(Weights, WithAnySingleFlippedBitAreRefusedOrRight) {
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

TEST_F(Weights, DamagedInTheirLastTensorChangeNothing) {
  auto bytes = read_bytes(file_);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  write_bytes(file_, bytes);
  auto other = mlp(2);
  EXPECT_THAT(refusal(*other, file_, {.strict = false}), HasSubstr("the file is damaged"));
}

TEST_F(Weights, OfATypeThatLibTorchLacksChangeNothing) {
  torch::nn::Linear layer(2, 2);
  const auto file = folder_.path() / "f4.safetensors";
  write_bytes(file, testing::safetensors_file(
                        R"({"weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
                        R"("bias":{"dtype":"F4","shape":[2],"data_offsets":[16,17]}})",
                        17));
  EXPECT_THAT(refusal(*layer, file), HasSubstr("tensor 'bias' is F4, which LibTorch has no"));
}

TEST_F(Weights, OfTruthValuesAreZeroOrOne) {
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

TEST_F(Weights, WhoseFileBeginsAsOthersDoAreRead) {
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

TEST_F(Weights, ReplaceAFileAndLeaveNothingElse) {
  const auto other = mlp(2);
  write_bytes(concat(file_.string(), ".", ::getpid(), ".tmp"), "of a process that was killed");
  save_weights(*other, file_);
  EXPECT_THAT(names_in(folder_.path()), ElementsAre("net.safetensors"));
  load_weights(*net_, file_);
  EXPECT_EQ(difference(*net_, copy_of(*other)), "");
  const auto here = std::filesystem::current_path();
  std::filesystem::current_path(folder_.path());
  save_weights(*other, "here.safetensors");  // a name without a folder
  std::filesystem::current_path(here);
  EXPECT_EQ(read_bytes(folder_.path() / "here.safetensors"), read_bytes(file_));
}

/// Lets no file of this process grow beyond a size, as a full disk doesn't.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  void (*handler_)(int);
  rlimit before_{};
};

TEST_F(Weights, ThatCanNotBeWrittenLeaveTheOldFile) {
  const auto bytes = read_bytes(file_);
  const auto other = mlp(2);
  {
    const FileSizeLimit limit(bytes.size() / 2);
    EXPECT_THROW(save_weights(*other, file_), FileError);
  }
  EXPECT_EQ(read_bytes(file_), bytes);
  EXPECT_THAT(names_in(folder_.path()), ElementsAre("net.safetensors"));

  const std::filesystem::path beside = concat(file_.string(), ".", ::getpid(), ".tmp");
  std::filesystem::create_directory(beside);
  EXPECT_THROW(save_weights(*other, file_), FileError);
  EXPECT_EQ(read_bytes(file_), bytes);
  std::filesystem::remove(beside);

  EXPECT_THROW(save_weights(*other, folder_.path() / "absent" / "net.safetensors"), FileError);
  std::filesystem::create_directories(folder_.path() / "taken" / "inside");
  EXPECT_THROW(save_weights(*other, folder_.path() / "taken"), FileError);
  EXPECT_THAT(names_in(folder_.path()), ElementsAre("net.safetensors", "taken"));
  EXPECT_THROW(save_weights(*other, ""), ArgumentError);
  EXPECT_THROW(save_weights(*other, folder_.path() / ""), ArgumentError);
}

TEST_F(Weights, ThatSafetensorsCanNotHoldAreRefusedByName) {
  struct Sparse : torch::nn::Module {
    Sparse() { register_buffer("adjacency", torch::eye(2).to_sparse()); }
  } net;
  const auto bytes = read_bytes(file_);
  try {
    save_weights(net, file_);
    ADD_FAILURE() << "accepted";
  } catch (const ArgumentError& error) {
    EXPECT_THAT(error.what(), HasSubstr("tensor 'adjacency' is Sparse"));
  }
  EXPECT_EQ(read_bytes(file_), bytes);
}

TEST_F(Weights, ThatAreNotThereAreAFileError) {
  EXPECT_THROW(load_weights(*net_, folder_.path() / "absent.safetensors"), FileError);
  EXPECT_THROW(load_weights(*net_, folder_.path()), FileError);
  for (const char* other : {"", "{", "<html>", "\x80", "PK", "PK\3\4"}) {
    write_bytes(file_, other);
    EXPECT_THAT(refusal(*net_, file_), HasSubstr(file_.string())) << other;
  }
}

}  // namespace
}  // namespace torch_accelerated
