// SPDX-License-Identifier: Apache-2.0
// What becomes of names and values, and how a file is replaced; which files are read stands in
// weights_files_test.cpp.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>
#include <unistd.h>

#include <filesystem>

#include "base/text.h"
#include "support/file_bytes.h"
#include "support/file_size_limit.h"
#include "support/weights.h"

namespace torch_accelerated::weights_test {
namespace {

using ::testing::AllOf;
using testing::copy_of;
using testing::difference;
using ::testing::ElementsAre;
using testing::FileSizeLimit;
using ::testing::HasSubstr;
using testing::mlp;
using testing::names_in;
using testing::read_bytes;
using testing::refusal;
using testing::tensors_of;
using testing::write_bytes;
using Weights = testing::WeightsFixture;

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
}  // namespace torch_accelerated::weights_test
